"""Many, and much: nothing leaks, nothing grows, nothing is mixed up."""

import hashlib
import os
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from contract import MiB, begin, collect, follow, get, info, listing, pb, run, start, stop, wait, write
from gateway import descriptors, eventually, gateway, resident, zombies
from wire import SERVICE, Connection, message

pytestmark = [pytest.mark.scale, pytest.mark.timeout(170)]
SOAK = bool(os.environ.get("PROCGATE_SOAK"))
AS_ROOT = os.getuid() == 0


def connections(g):
    """Open ones of the gateway's port, on its side."""
    here, established, close_wait = f":{g.port:04X}", "01", "08"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    found = [line.split() for line in lines]
    return [each for each in found if each[1].endswith(here) and each[3] in (established, close_wait)]


class Footprint:
    """Descriptors and resident bytes of both processes, once all is forgotten."""

    def __init__(self, g):
        self.pids = (g.pid, g.supervisor)
        self.descriptors = [descriptors(pid) for pid in self.pids]
        self.anonymous = [resident(pid, "RssAnon") for pid in self.pids]
        self.arena = resident(g.supervisor, "RssShmem")
        self.resident = sum(map(resident, self.pids))

    def has_grown(self, before):
        """By more than the noise of an allocator that has what it needs."""
        sizes = zip(before.anonymous, self.anonymous)
        return any(after > earlier + 128 * 1024 for earlier, after in sizes)

    def __repr__(self):
        anonymous = [size >> 10 for size in self.anonymous]
        return f"{self.descriptors} descriptors, {anonymous} + {self.arena >> 10} KiB"


class Peak:
    """The most that both processes were resident together while inside, sampled."""

    def __init__(self, g):
        self.pids = (g.pid, g.supervisor)
        self.over = threading.Event()
        self.bytes = 0

    def sample(self):
        while not self.over.wait(0.02):
            self.bytes = max(self.bytes, sum(map(resident, self.pids)))

    def __enter__(self):
        self.thread = threading.Thread(target=self.sample)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def settles(round, descriptors):
    """Rounds of the same until one takes no more memory than the one before. An allocator needs
    some of them, and with what leaks there is none. `descriptors` more than after the first are
    allowed, for what is kept for as many at a time as there were."""
    rounds = [round()]
    for _ in range(12):
        rounds.append(round())
        has_settled = not rounds[-1].has_grown(rounds[-2])
        if has_settled and len(rounds) > (10 if SOAK else 3):
            break
    assert has_settled, rounds
    for first, last in zip(rounds[0].anonymous, rounds[-1].anonymous):
        assert last <= first + 4 * MiB, rounds
    assert rounds[-1].arena < 48 * MiB, rounds
    for first, last in zip(rounds[0].descriptors, rounds[-1].descriptors):
        assert last <= first + descriptors, rounds


def forgotten(g):
    try:
        eventually(lambda: not listing(g.stub).processes, what="all processes to be forgotten")
    except AssertionError as error:
        raise AssertionError(f"{error}: {listing(g.stub).processes[:3]}") from None
    eventually(lambda: not zombies(g.supervisor), what="the reaping of all")


def test_a_thousand_execs_a_hundred_at_a_time_as_two_users_leak_nothing():
    users = ["daemon", "nobody"] if AS_ROOT else [""]
    with gateway("--retain-time", "1s") as g, ThreadPoolExecutor(100) as pool:
        stub = g.stub

        def one(i):
            ran = run(stub, f"echo {i} $(id -un)", run_as=users[i % len(users)], cwd="/")
            assert ran.stdout.decode() == f"{i} {users[i % len(users)]}\n", ran.stderr
            assert ran.process.exit_code == 0

        def thousand():
            list(pool.map(one, range(1000)))
            forgotten(g)
            return Footprint(g)

        settles(thousand, descriptors=210)
        assert not zombies(g.pid) and not zombies(g.supervisor)


def test_callers_and_calls_with_fields_of_their_own_leave_nothing_behind():
    with gateway() as g:

        def round():
            for i in range(20):
                with Connection(g.address, g.token) as connection:
                    connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    for j in range(20):
                        unique = {"x-request": f"{i}.{j}." + "x" * 2000}
                        assert connection.call(SERVICE + "GetGateway", **unique).status == 0
            return Footprint(g)

        settles(round, descriptors=8)


def test_calls_of_every_kind_leak_nothing():
    with gateway("--retain-time", "1s") as g:

        def round():
            for i in range(60):
                stub = g.connect() if i % 20 == 0 else stub  # noqa: F821
                events = begin(stub, "cat /dev/zero")
                next(events)
                events.cancel()
                id = start(stub, "cat").id
                follower = follow(stub, id)
                write(stub, id, b"x" * 1000)
                next(follower)
                follower.cancel()
                stub.Wait.future(pb.WaitRequest(process_id=id)).cancel()
                write(stub, id, eof=True)
                wait(stub, id)
                stop(stub, start(stub, "sleep 1000").id, grace_ms=0)
                for bad in ("", "no-such-command-at-all"):
                    try:
                        run(stub, bad)
                    except Exception:
                        pass
            g.close_channels()
            forgotten(g)
            g.close_channels()
            # A proxy keeps its own.
            eventually(lambda: g.proxy or not connections(g), what="the end of every connection")
            return Footprint(g)

        settles(round, descriptors=8)


def test_a_large_random_stream_to_a_pausing_reader_is_right_and_memory_bounded():
    size = (5 << 30) if SOAK else (512 << 20)
    source = (
        "openssl enc -aes-128-ctr -pass pass:procgate -nosalt -pbkdf2 </dev/zero 2>/dev/null"
        f" | head -c {size}"
    )
    expected = subprocess.Popen(["sh", "-c", source + " | sha256sum"], stdout=subprocess.PIPE)
    with gateway() as g:
        run(g.stub, "true")
        idle = Footprint(g).resident
        digest, count, seq, pauses = hashlib.sha256(), 0, 0, 0
        with Peak(g) as peak:
            events = begin(g.connect(), source, timeout=None)
            id = next(events).started.id
            for event in events:
                if event.WhichOneof("event") != "output":
                    continue
                seq += 1
                assert event.output.seq == seq
                digest.update(event.output.data)
                count += len(event.output.data)
                if count // (64 * MiB) > pauses:
                    pauses += 1
                    # The reader pauses until there is more than it has read.
                    ahead = min(size, count + MiB)
                    eventually(lambda ahead=ahead: get(g.stub, id).stdout_bytes >= ahead)
        assert count == size
        with expected:
            assert digest.hexdigest() == expected.stdout.read().split()[0].decode()
        assert peak.bytes - idle < 64 * MiB, f"{(peak.bytes - idle) >> 20} MiB beyond idle"


def test_a_follower_that_never_reads_leaves_twenty_others_their_pace_and_memory_bounded():
    with gateway() as g:
        run(g.stub, "true")
        idle = Footprint(g).resident
        id = start(g.stub, "read x; seq 1 2000000").id
        never, stubs = follow(g.connect(), id), [g.connect() for _ in range(4)]
        sizes, refusals = [0] * 20, []

        def read(i):
            try:
                for event in follow(stubs[i % 4], id, allow_gaps=True):
                    sizes[i] += len(event.output.data)
                    refusals.extend([i] * (event.WhichOneof("event") == "gap"))
            except Exception as error:
                refusals.append(error)

        threads = [threading.Thread(target=read, args=(i,)) for i in range(20)]
        with Peak(g) as peak:
            for thread in threads:
                thread.start()
            write(g.stub, id, b"\n")
            assert wait(g.stub, id, max_output_bytes=1).process.exit_code == 0
            for thread in threads:
                thread.join()
        assert not [each for each in refusals if not isinstance(each, int)], refusals
        assert all(size > 0 for size in sizes)
        assert peak.bytes - idle < 64 * MiB
        never.cancel()


@pytest.mark.issue3
def test_a_thousand_calls_at_once_on_one_connection():
    with gateway() as g:
        id = start(g.stub, "read x; echo out").id
        with Connection(g.address, g.token) as connection:
            body = stream_body(id)
            ids = [connection.request(SERVICE + "StreamOutput", body) for _ in range(1000)]
            write(g.stub, id, b"\n")
            for each in ids:
                response = connection.response(each, 30)
                assert response.status == 0 and b"out\n" in response.data


@pytest.mark.issue3
def test_a_thousand_connections_with_one_call_each():
    with gateway("--max-connections", "1100") as g:
        id = start(g.stub, "read x; echo out").id
        connections = [Connection(g.address, g.token) for _ in range(1000)]
        ids = [
            connection.request(SERVICE + "StreamOutput", stream_body(id))
            for connection in connections
        ]
        write(g.stub, id, b"\n")
        for connection, each in zip(connections, ids):
            response = connection.response(each, 30)
            assert response.status == 0 and b"out\n" in response.data
            connection.close()


def stream_body(id):
    from contract import pb

    return message(pb.StreamOutputRequest(process_id=id).SerializeToString())


def test_fifty_megabytes_of_single_lines_arrive_in_order():
    with gateway() as g:
        count = 400_000
        ran = collect(begin(g.stub, f"seq 1 {count} | while read i; do echo line $i; done"))
        assert ran.lines == [f"line {i}" for i in range(1, count + 1)]
        assert ran.seqs == list(range(1, len(ran.seqs) + 1))


def test_a_hundred_streams_at_once_are_each_whole():
    with gateway() as g, ThreadPoolExecutor(100) as pool:
        stubs = [g.connect() for _ in range(5)]
        expected = "".join(f"{i}\n" for i in range(1, 50001)).encode()

        def one(i):
            return run(stubs[i % 5], "seq 1 50000").stdout == expected

        assert all(pool.map(one, range(100)))
        assert info(g.stub).version
