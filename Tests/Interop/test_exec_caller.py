"""Exec and its caller: what becomes of the process when the caller goes, comes back or is slow."""

import hashlib
import subprocess
import sys
import threading
import time

import pytest

from contract import (
    EXITED,
    KEEP,
    KILLED,
    RUNNING,
    Code,
    MiB,
    Ran,
    begin,
    collect,
    follow,
    get,
    has_lines,
    info,
    pb,
    refused,
    run,
    start,
    stop,
    until,
    wait,
)
from gateway import alive, eventually, gateway, standstill
from programs import PRINTER, TREE, PrinterProgress, tree_pids
from relay import Relay

# Of the gateway `quick`.
QUICK_WINDOW_SECONDS = 1


@pytest.fixture(scope="module")
def quick():
    """A keyed Exec waits for its caller for a second here."""
    with gateway("--resume-window", f"{QUICK_WINDOW_SECONDS}s") as g:
        yield g


def gone_for_its_caller(stub, id, **fields):
    """The process, once it has ended because its caller was gone."""
    process = wait(stub, id, **fields).process
    assert process.status == KILLED
    assert process.termination_reason == pb.TERMINATION_REASON_CALLER_GONE
    return process


def test_a_cancelled_exec_kills_its_whole_tree(stub):
    events = begin(stub, TREE)
    ran = until(events, has_lines(4))
    pids = tree_pids(ran.stdout) | {ran.started.pid}
    assert all(alive(pid) for pid in pids)
    events.cancel()
    gone_for_its_caller(stub, ran.id)
    eventually(lambda: not any(map(alive, pids)), what="the end of the tree")


def test_a_cancelled_exec_kills_at_once_though_term_is_ignored(stub):
    deaf = "trap '' TERM; echo ready; while :; do sleep 1000; done"
    events = begin(stub, deaf, grace_ms=3_600_000)
    ran = until(events, has_lines(1))
    events.cancel()
    gone_for_its_caller(stub, ran.id)


def test_an_exec_past_its_deadline_kills_its_whole_tree(stub):
    ran = Ran()
    with refused(Code.DEADLINE_EXCEEDED):
        collect(begin(stub, TREE, timeout=1), ran)
    gone_for_its_caller(stub, ran.id)
    pids = tree_pids(ran.stdout) | {ran.started.pid}
    assert len(pids) == 5
    eventually(lambda: not any(map(alive, pids)), what="the end of the tree")


def test_an_exec_that_loses_its_connection_kills_its_whole_tree(shared):
    with Relay(shared.address) as relay:
        events = begin(shared.connect(target=relay.address), TREE)
        ran = until(events, has_lines(4))
        relay.cut()
        with refused(Code.UNAVAILABLE):
            collect(events, ran)
    gone_for_its_caller(shared.stub, ran.id)
    pids = tree_pids(ran.stdout) | {ran.started.pid}
    eventually(lambda: not any(map(alive, pids)), what="the end of the tree")


def test_an_exec_whose_caller_is_killed_kills_its_process(shared, tmp_path):
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import contract, grpc\n"
        "stub = contract.Stub(grpc.insecure_channel(sys.argv[2]), [('authorization', sys.argv[3])])\n"
        "events = contract.begin(stub, 'sleep 1000')\n"
        "print(next(events).started.id, flush=True); list(events)"
    )
    directory = __file__.rpartition("/")[0]
    token = f"Bearer {shared.token}"
    caller = subprocess.Popen(
        [sys.executable, "-c", program, directory, shared.address, token], stdout=subprocess.PIPE
    )
    with caller:
        id = caller.stdout.readline().decode().strip()
        assert get(shared.stub, id).status == RUNNING
        caller.kill()
    gone_for_its_caller(shared.stub, id)


def test_an_exec_that_is_cancelled_while_queued_never_runs(tmp_path):
    with gateway("--max-running", "1") as g:
        first = start(g.stub, "sleep 1000")
        events = begin(g.stub, f"touch {tmp_path}/ran")
        id = next(events).queued.id
        events.cancel()
        process = gone_for_its_caller(g.stub, id)
        assert process.pid == process.started_at == 0
        stop(g.stub, first.id, grace_ms=0)
        run(g.stub, "true")
        assert not (tmp_path / "ran").exists()


def test_a_cancelled_exec_goes_on_where_its_caller_said_keep(quick, tmp_path):
    stub = quick.stub
    command = f"echo one; until [ -e {tmp_path}/go ]; do sleep 0.02; done; echo two"
    events = begin(stub, command, on_disconnect=KEEP)
    ran = until(events, has_lines(1))
    events.cancel()
    info(stub)
    assert get(stub, ran.id).status == RUNNING
    (tmp_path / "go").touch()
    followed = collect(follow(stub, ran.id))
    assert followed.stdout == b"one\ntwo\n"
    assert followed.process.status == EXITED


def test_an_exec_past_its_deadline_goes_on_where_its_caller_said_keep(quick, tmp_path):
    stub = quick.stub
    ran = Ran()
    command = f"until [ -e {tmp_path}/go ]; do sleep 0.02; done; echo done"
    with refused(Code.DEADLINE_EXCEEDED):
        collect(begin(stub, command, on_disconnect=KEEP, timeout=0.5), ran)
    assert get(stub, ran.id).status == RUNNING
    (tmp_path / "go").touch()
    assert wait(stub, ran.id).stdout_data == b"done\n"


def test_a_kept_exec_drops_the_oldest_once_nobody_came_back(quick):
    stub = quick.stub
    policy = pb.OutputPolicy(retain_bytes=MiB)
    events = begin(stub, "head -c 50M /dev/zero", on_disconnect=KEEP, output=policy)
    ran = until(events, lambda ran: ran.chunks)
    events.cancel()
    process = wait(stub, ran.id).process
    assert process.exit_code == 0
    assert process.stdout_bytes == 50 * MiB
    assert process.first_retained_seq > 1


def test_a_repeat_with_the_same_key_joins_the_first_ones_process(stub):
    first = begin(stub, "echo $$; sleep 0.5; echo end", key="join")
    ran = until(first, has_lines(1))
    joined = run(stub, "echo $$; sleep 0.5; echo end", key="join")
    collect(first, ran)
    assert joined.id == ran.id
    assert joined.started.id == ran.id
    assert joined.stdout == ran.stdout
    assert joined.seqs == ran.seqs


def test_a_repeat_follows_from_the_chunk_after_the_one_it_names(stub):
    command = "for i in 1 2 3 4 5; do echo $i; sleep 0.05; done"
    ran = run(stub, command, key="after")
    last = ran.exited.last_seq
    assert ran.seqs == list(range(1, last + 1))
    for after in range(last + 1):
        again = run(stub, command, key="after", after=after)
        assert again.id == ran.id
        assert again.seqs == list(range(after + 1, last + 1))
        assert again.process.exit_code == 0


def test_a_repeat_after_the_end_starts_nothing(stub, tmp_path):
    command = f"echo ran >> {tmp_path}/log; exit 9"
    first = run(stub, command, key="once")
    again = run(stub, command, key="once")
    assert (tmp_path / "log").read_text() == "ran\n"
    assert again.id == first.id
    assert again.process.exit_code == 9


def test_different_keys_and_no_key_start_anew(stub):
    ids = {run(stub, "true", key=key).id for key in ("a", "b", "", "")}
    assert len(ids) == 4


def test_keys_and_commands_are_compared_by_their_bytes(stub):
    """Two ways to write a letter in Unicode are two keys, and two commands."""
    composed, apart = "\u00e9", "e\u0301"
    first = start(stub, "true", key=composed).id
    assert start(stub, "true", key=apart).id != first
    assert start(stub, "true", key=composed).id == first
    start(stub, f"echo {composed}", key="one letter")
    with refused(Code.ALREADY_EXISTS, "REQUEST_KEY_REUSED"):
        start(stub, f"echo {apart}", key="one letter")


def test_a_key_with_another_spec_is_refused(stub):
    run(stub, "echo one", key="reused")
    for other in (
        dict(command="echo two"),
        dict(command="echo one", env={"A": "B"}),
        dict(command="echo one", cwd="/tmp"),
        dict(command="echo one", timeout_ms=1000),
        dict(command="echo one", labels={"a": "b"}),
    ):
        with refused(Code.ALREADY_EXISTS, "REQUEST_KEY_REUSED"):
            run(stub, key="reused", **other)
    assert run(stub, "echo one", key="reused").stdout == b"one\n"


def test_a_keyed_exec_that_lost_its_connection_waits_for_its_caller():
    """Nothing is lost and nothing comes twice, however often the connection goes."""
    command = "for i in $(seq 300); do echo $i; sleep 0.004; done; echo end"
    with gateway("--resume-window", "20s") as g:
        ran = Ran()
        for _ in range(4):
            seen, ran.started = len(ran.chunks), None
            with Relay(g.address) as relay:
                stub = g.connect(target=relay.address)
                events = begin(stub, command, key="resume", after=seen)
                until(events, lambda ran, seen=seen: len(ran.chunks) > seen + 2, ran)
                assert ran.started
                relay.cut()
        ran.started = None
        collect(begin(g.stub, command, key="resume", after=len(ran.chunks)), ran)
        assert ran.lines == [*map(str, range(1, 301)), "end"]
        assert ran.seqs == list(range(1, len(ran.chunks) + 1))
        assert ran.process.exit_code == 0


def test_a_keyed_exec_whose_caller_stays_away_is_killed_after_the_resume_window(quick):
    with Relay(quick.address) as relay:
        events = begin(quick.connect(target=relay.address), "sleep 1000", key="stays away")
        id = next(events).started.id
        began = time.monotonic()
        relay.cut()
    process = gone_for_its_caller(quick.stub, id)
    assert time.monotonic() - began >= QUICK_WINDOW_SECONDS
    eventually(lambda: not alive(process.pid))


def test_a_keyed_exec_that_is_cancelled_is_killed_at_once(shared):
    with gateway("--resume-window", "1h", proxy=shared.proxy_name) as g:
        events = begin(g.stub, "sleep 1000", key="cancelled")
        id = next(events).started.id
        events.cancel()
        gone_for_its_caller(g.stub, id, timeout_ms=20_000)


def test_a_slow_reader_that_goes_holds_back_no_other_one():
    """Both wait for the same Exec; the process waited for the slow one alone."""
    with gateway() as g:
        command, key = "head -c 100000000 /dev/zero", "two readers"
        slow = begin(g.connect(), command, key=key)
        id = next(slow).started.id
        sizes = [0]

        def read():
            for event in begin(g.connect(), command, key=key):
                sizes[0] += len(event.output.data)

        reading = threading.Thread(target=read)
        reading.start()

        standstill(lambda: sizes[0] and (get(g.stub, id).last_seq, sizes[0]))
        assert sizes[0] < 100_000_000
        slow.cancel()
        reading.join(50)
        assert sizes[0] == 100_000_000


# What a process prints whose reader is slow, and the most of it that is on the way while that reader
# stands still: the gateway's window is 8 MiB, the kernel's buffers for each of two connections hold
# 10 MiB (tcp_wmem and tcp_rmem), and a proxy and the client have theirs.
PRINTED = 256 * MiB
ON_THE_WAY = PRINTED // 2


def arrives_whole(ran, events, progress):
    """What came first, and then the rest: all that was printed, in order. It is not kept."""
    digest, size, seq = hashlib.sha256(ran.stdout), len(ran.stdout), ran.seqs[-1]
    for event in events:
        if event.WhichOneof("event") == "output":
            seq += 1
            assert event.output.seq == seq
            digest.update(event.output.data)
            size += len(event.output.data)
    assert size == PRINTED
    assert progress.digest() == digest.hexdigest()


@pytest.mark.timeout(300)
def test_a_slow_reader_holds_the_process_back_and_loses_nothing(shared, tmp_path):
    progress = PrinterProgress(tmp_path / "progress")
    words = (sys.executable, "-I", "-c", PRINTER, str(progress.path), str(PRINTED))
    events = begin(shared.connect(), *words, timeout=None)
    ran = until(events, lambda ran: ran.chunks)
    assert progress.stalls() < ON_THE_WAY
    arrives_whole(ran, events, progress)


@pytest.mark.timeout(300)
def test_a_slow_reader_holds_it_back_though_little_output_is_retained(shared, tmp_path):
    progress = PrinterProgress(tmp_path / "progress")
    words = (sys.executable, "-I", "-c", PRINTER, str(progress.path), str(PRINTED))
    policy = pb.OutputPolicy(retain_bytes=64 << 10)
    events = begin(shared.connect(), *words, output=policy, timeout=None)
    ran = until(events, lambda ran: ran.chunks)
    assert progress.stalls() < ON_THE_WAY
    arrives_whole(ran, events, progress)


def test_a_slow_reader_does_not_hold_back_other_calls_of_its_connection(shared, tmp_path):
    stub = shared.connect()
    slow = begin(stub, "head -c 64M /dev/zero; sleep 1000")
    until(slow, lambda ran: ran.chunks)
    for _ in range(20):
        assert run(stub, "echo quick").stdout == b"quick\n"
    slow.cancel()


def test_a_stalled_reader_that_is_cancelled_ends_its_process(shared):
    stub = shared.connect()
    events = begin(stub, "cat /dev/zero")
    ran = until(events, lambda ran: ran.chunks)
    events.cancel()
    gone_for_its_caller(shared.stub, ran.id)


def test_a_caller_that_cancels_while_output_flows_ends_each_of_many(shared):
    stub = shared.connect()
    ids = []
    for _ in range(30):
        events = begin(stub, "cat /dev/urandom")
        ids.append(until(events, lambda ran: ran.chunks).id)
        events.cancel()
    for id in ids:
        gone_for_its_caller(shared.stub, id)


def test_a_call_that_is_cancelled_before_its_start_leaves_nothing(shared):
    stub = shared.connect()
    label = {"cancelled": "early"}
    calls = [begin(stub, "sleep 1000", labels=label) for _ in range(50)]
    threads = [threading.Thread(target=call.cancel) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    def none_left():
        request = pb.ListProcessesRequest(labels=label)
        listed = shared.stub.ListProcesses(request).processes
        return all(process.ended_at for process in listed)

    info(stub)
    eventually(none_left, what="the end of every cancelled process")
