"""--max-input-memory: stdin, arguments and environments of all processes in the supervisor."""

import concurrent.futures
import os
import re
import threading
import time
from pathlib import Path

import grpc
import pytest

from bystander import Bystander, outcome
from contract import (
    EXITED,
    Code,
    MiB,
    begin,
    collect,
    error_info,
    get,
    info,
    pb,
    refused,
    run,
    spec,
    start,
    stop,
    wait,
    write,
)
from gateway import eventually, gateway, resident

pytestmark = pytest.mark.timeout(150)

BUDGET = 256 * MiB  # the default
BUFFERS = 256 * MiB  # the default of --max-buffer-memory, in the gateway
# For memory that is not input: tables, one message that is being read, free memory of the
# allocator. The loads of these tests are two to four times as large as the budget.
ALLOWANCE = 96 * MiB
CAP_SYS_RESOURCE = 24
BLOCK = bytes(15 * MiB)
UNREAD = "exec sleep 1000"


def supervisor_memory(g):
    return resident(g.supervisor, "RssAnon")


class Load:
    """Execs that do not read their stdin, each on one of four connections."""

    def __init__(self, g, count, data=BLOCK, **fields):
        stubs = [g.connect() for _ in range(4)]
        self.lock = threading.Lock()
        self.calls, self.running, self.queued, self.refused = [], [], [], []
        self.stopping = False
        self.pool = concurrent.futures.ThreadPoolExecutor(count)
        self.tasks = [
            self.pool.submit(self.begin, stubs[i % 4], data, fields) for i in range(count)
        ]

    def begin(self, stub, data, fields):
        call = begin(stub, UNREAD, stdin=data, cwd="/", timeout=None, **fields)
        self.calls.append(call)
        try:
            for event in call:
                kind = event.WhichOneof("event")
                with self.lock:
                    if kind == "queued":
                        self.queued.append(event.queued.id)
                    elif kind == "started":
                        self.running.append(event.started.id)
        except grpc.RpcError as error:
            if not self.stopping:
                self.refused.append((error.code(), error_info(error).reason))

    @property
    def decided(self):
        waiting = set(self.queued) - set(self.running)
        return len(self.running) + len(waiting) + len(self.refused)

    def end(self):
        self.stopping = True
        for call in self.calls:
            call.cancel()
        self.pool.shutdown()


def settle(g, load):
    """Waits until each start is decided, or for 10 s without a decision: flow control may hold the
    rest back. Returns the highest memory of the supervisor meanwhile."""
    peak, last, since = 0, -1, time.monotonic()

    def quiet():
        nonlocal peak, last, since
        peak = max(peak, supervisor_memory(g))
        if load.decided != last:
            last, since = load.decided, time.monotonic()
        return last == len(load.tasks) or (load.running and time.monotonic() - since > 10)

    eventually(quiet, 100, "a decision on each start")
    return peak


def test_the_input_of_running_processes_stays_within_its_budget():
    with gateway() as g:
        with Bystander(g) as bystander:
            load = Load(g, 60)
            peak = settle(g, load)
            assert max(peak, supervisor_memory(g)) < BUDGET + ALLOWANCE
            assert set(load.refused) <= {(Code.RESOURCE_EXHAUSTED, "INPUT_MEMORY_EXHAUSTED")}
            assert load.running, "no start at all"
            assert len(load.running) * len(BLOCK) <= BUDGET + ALLOWANCE
            bystander.is_not_delayed()
            load.end()


def test_the_budget_is_released_when_processes_end():
    with gateway() as g:
        for round in range(3):
            load = Load(g, 24)
            settle(g, load)
            assert len(load.running) < 24, "the load is within the budget: it shows nothing"
            load.end()
            finished = lambda: outcome(
                lambda: run(g.stub, "wc -c", stdin=BLOCK, cwd="/", queue_timeout_ms=5000).stdout
            )
            eventually(lambda: finished() == b"%d\n" % len(BLOCK), 30, "a start like the others")
        eventually(lambda: supervisor_memory(g) < ALLOWANCE, 30, "the return of memory")


def test_a_start_above_the_budget_is_refused_or_waits():
    with gateway() as g:
        load = Load(g, 24)
        settle(g, load)
        late = lambda: run(g.stub, "true", stdin=BLOCK, cwd="/", queue_timeout_ms=500).process
        found = outcome(late)
        if found != "INPUT_MEMORY_EXHAUSTED":
            assert found.termination_reason == pb.TERMINATION_REASON_QUEUE_TIMEOUT
        waiting = set(load.queued) - set(load.running)
        for id in list(load.running):
            stop(g.stub, id, grace_ms=0)
        for id in waiting:
            eventually(lambda id=id: get(g.stub, id).started_at, 30, "the start of what waited")
        load.end()


@pytest.mark.parametrize("what", ["arguments", "environment"])
def test_arguments_and_environments_count_against_the_budget(what):
    """Of queued processes. Those of running processes are in the kernel."""
    with gateway("--max-running", "1") as g:
        first = start(g.stub, UNREAD, cwd="/")
        piece = "x" * 100_000
        fields = {"env": {f"V{i}": piece for i in range(15)}} if what == "environment" else {}
        arguments = [piece] * 15 if what == "arguments" else []
        found = set()

        def ask(stub):
            for _ in range(75):
                result = outcome(lambda: start(stub, "/bin/true", *arguments, cwd="/", **fields).id)
                found.add(result if result.isupper() else "started")

        threads = [threading.Thread(target=ask, args=(g.connect(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(100)
        assert supervisor_memory(g) < BUDGET + ALLOWANCE
        assert found == {"started", "INPUT_MEMORY_EXHAUSTED"}
        stop(g.stub, first.id, grace_ms=0)
        again = lambda: outcome(lambda: run(g.stub, "/bin/true", *arguments, cwd="/", **fields))
        eventually(lambda: not isinstance(again(), str), 60, "a start after the queue has run")


def test_writes_to_processes_that_do_not_read_stay_within_the_budgets():
    with gateway() as g:
        processes = [start(g.stub, UNREAD, cwd="/") for _ in range(30)]
        stubs = [g.connect() for _ in range(4)]
        with Bystander(g) as bystander:
            calls = []
            for i, process in enumerate(processes * 2):
                request = pb.WriteStdinRequest(process_id=process.id, data=BLOCK)
                calls.append(stubs[i % 4].WriteStdin.future(request, timeout=100))
            for _ in range(20):
                bystander.is_not_delayed()
                assert supervisor_memory(g) < BUDGET + ALLOWANCE
                assert resident(g.pid, "RssAnon") < BUFFERS + ALLOWANCE
            for call in calls:
                if call.done():
                    assert error_info(call.exception()).reason == "INPUT_MEMORY_EXHAUSTED"
            for process in processes:
                stop(g.stub, process.id, grace_ms=0)
            for call in calls:
                call.exception()  # each call ends: with its process, or refused
        eventually(lambda: supervisor_memory(g) < ALLOWANCE, 30, "the return of memory")
        eventually(lambda: resident(g.pid, "RssAnon") < ALLOWANCE, 30, "the return of memory")


def test_more_input_than_the_budget_reaches_processes_that_read():
    with gateway() as g:
        ids = [start(g.stub, "wc -c", cwd="/").id for _ in range(30)]
        stubs = [g.connect() for _ in range(4)]

        def feed(number):
            return write(stubs[number % 4], ids[number], BLOCK, eof=True)

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            assert set(pool.map(feed, range(30))) == {len(BLOCK)}
        for id in ids:
            assert wait(g.stub, id).stdout_data == b"%d\n" % len(BLOCK)


def test_writes_that_are_not_kept_wait_quietly_and_keep_their_order(tmp_path):
    """A write for which there is no memory is asked for once the process reads, and not before;
    until it comes, later ones do not overtake it."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with gateway("--max-input-memory", "1MiB") as g:
        reader = start(g.stub, f"read go < {gate}; exec tr -s A-H", cwd="/")
        calls = [
            g.stub.WriteStdin.future(
                pb.WriteStdinRequest(process_id=reader.id, data=letter * (200 << 10)), timeout=100
            )
            for letter in (b"A", b"B", b"C", b"D", b"E", b"F", b"G", b"H")
        ]
        eventually(lambda: idles(g.supervisor), 60, "a supervisor that waits")
        gate.write_text("go\n")
        for call in calls:
            call.result()
        write(g.stub, reader.id, b"", eof=True)
        runs = wait(g.stub, reader.id).stdout_data
        assert sorted(runs) == sorted(b"ABCDEFGH")  # each as a whole


def idles(pid):
    """It has used no processor for half a second."""
    used = lambda: Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    before = used()
    time.sleep(0.5)
    return used() == before


def test_the_option_sets_the_budget():
    with gateway("--max-input-memory", "32MiB") as g:
        load = Load(g, 8)
        settle(g, load)
        assert 1 <= len(load.running) <= 2
        assert set(load.refused) <= {(Code.RESOURCE_EXHAUSTED, "INPUT_MEMORY_EXHAUSTED")}
        assert run(g.stub, "cat", stdin=b"small", cwd="/").stdout == b"small"
        load.end()


def test_a_start_larger_than_the_whole_budget_is_refused():
    with gateway("--max-input-memory", "8MiB") as g:
        with refused(Code.RESOURCE_EXHAUSTED, "INPUT_MEMORY_EXHAUSTED"):
            run(g.stub, "wc -c", stdin=BLOCK, cwd="/")
        id = start(g.stub, "wc -c", cwd="/").id
        assert write(g.stub, id, BLOCK, eof=True) == len(BLOCK)  # passed on in parts
        assert wait(g.stub, id).stdout_data == b"%d\n" % len(BLOCK)


def score(pid):
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def test_the_kernel_prefers_a_command_to_the_supervisor_when_memory_is_short(shared):
    process = start(shared.stub, "exec sleep 1000")
    try:
        if score(process.pid) <= score(shared.supervisor):
            # Without CAP_SYS_RESOURCE a process cannot lower its own score.
            effective = status_field(shared.supervisor, "CapEff")
            assert not effective >> CAP_SYS_RESOURCE & 1
            pytest.skip("needs CAP_SYS_RESOURCE")
    finally:
        stop(shared.stub, process.id, grace_ms=0)


def status_field(pid, name):
    found = re.search(name + r":\s+([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text())
    return int(found.group(1), 16)


# Keys and labels


@pytest.mark.parametrize("key", ["k" * 256, "é" * 128], ids=["letters", "of two bytes"])
def test_a_key_of_256_bytes_is_taken(stub, key):
    id = start(stub, "echo x", key=key).id
    assert start(stub, "echo x", key=key).id == id
    assert collect(begin(stub, "echo x", key="e" + key[1:])).stdout == b"x\n"


@pytest.mark.parametrize(
    "key", ["k" * 257, "é" * 128 + "k", "k" * (12 * MiB)], ids=["257", "257 of two", "12 MiB"]
)
def test_a_longer_key_is_refused(stub, key):
    with refused(Code.INVALID_ARGUMENT, "REQUEST_KEY_INVALID"):
        start(stub, "true", key=key)
    with refused(Code.INVALID_ARGUMENT, "REQUEST_KEY_INVALID"):
        collect(begin(stub, "true", key=key))
    first = pb.StartProcessRequest(process=spec("true"), request_key=key)
    with refused(Code.INVALID_ARGUMENT, "REQUEST_KEY_INVALID"):
        collect(stub.Attach(iter([pb.AttachRequest(start=first)])))


def labels_of(size, count=4):
    """`count` labels of `size` bytes in all."""
    names = [f"label-{i}" for i in range(count)]
    room = size - sum(map(len, names))
    values = ["v" * (room // count)] * (count - 1)
    values.append("v" * (room - sum(map(len, values))))
    return dict(zip(names, values))


def test_labels_of_almost_256_kib_are_taken(stub):
    labels = labels_of(255 * 1024)
    process = start(stub, "true", labels=labels)
    assert get(stub, process.id).labels == labels
    assert wait(stub, process.id).process.status == EXITED


@pytest.mark.parametrize("count", [1, 4, 1000])
def test_more_labels_are_refused(stub, count):
    for size in (256 * 1024 + 1, 2 * MiB):
        with refused(Code.INVALID_ARGUMENT, "LABELS_INVALID"):
            start(stub, "true", labels=labels_of(size, count))
        with refused(Code.INVALID_ARGUMENT, "LABELS_INVALID"):
            run(stub, "true", labels=labels_of(size, count))
    assert info(stub).version
