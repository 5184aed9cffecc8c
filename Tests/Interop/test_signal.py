"""Signal and StopProcess."""

import time

import pytest

from contract import (
    EXITED,
    KILLED,
    Code,
    collect,
    follow,
    get,
    has_lines,
    pb,
    refused,
    run,
    send_signal,
    start,
    stop,
    until,
    wait,
)
from gateway import alive, eventually, gateway, zombies
from programs import TREE, tree_pids

LEADER, TREE_SCOPE = pb.SIGNAL_SCOPE_LEADER, pb.SIGNAL_SCOPE_TREE

# The command and a child, each telling of USR1; and one that left the group.
TELLS = """
say() { trap "echo $1 got it" USR1; echo $1 ready; while :; do sleep 0.02; done; }
(say child) &
setsid sh -c 'trap "echo stray got it" USR1; echo stray ready; while :; do sleep 0.02; done' &
say leader
"""


@pytest.fixture
def told(stub):
    """The process of TELLS, once all three are ready, and its events."""
    process = start(stub, TELLS)
    events = follow(stub, process.id)
    yield process, events, until(events, has_lines(3))
    stop(stub, process.id, grace_ms=0)


@pytest.fixture
def tree(stub):
    process = start(stub, TREE)
    ran = until(follow(stub, process.id), has_lines(4))
    pids = tree_pids(ran.stdout)
    assert all(map(alive, pids))
    yield process, pids
    stop(stub, process.id, grace_ms=0)


def test_a_signal_ends_a_process(stub):
    id = start(stub, "sleep 1000").id
    assert send_signal(stub, id, "TERM").id == id
    process = wait(stub, id).process
    assert process.status == KILLED
    assert (process.signal, process.signal_name) == (15, "SIGTERM")
    assert process.termination_reason == pb.TERMINATION_REASON_SIGNALLED


def test_every_spelling_of_a_signal_is_taken(stub):
    for spelling, number in (
        ("TERM", 15),
        ("SIGTERM", 15),
        ("15", 15),
        ("KILL", 9),
        ("SIGKILL", 9),
        ("9", 9),
        ("INT", 2),
        ("SIGINT", 2),
        ("2", 2),
        ("HUP", 1),
        ("SIGUSR2", 12),
        ("QUIT", 3),
        ("64", 64),
        ("SIGIOT", 6),
        ("sigterm", 15),
    ):
        id = start(stub, "exec sleep 1000").id
        send_signal(stub, id, spelling)
        assert wait(stub, id).process.signal == number, spelling


def test_what_is_no_signal_is_refused(stub):
    process = start(stub, "sleep 1000")
    for spelling in (
        "",
        "NOPE",
        "SIG",
        "SIGNOPE",
        "65",
        "999",
        "-1",
        "-9",
        "+9",
        "9x",
        " 9",
        "TERM ",
        "1e1",
    ):
        with refused(Code.INVALID_ARGUMENT, "SIGNAL_INVALID"):
            send_signal(stub, process.id, spelling)
    assert alive(process.pid)
    stop(stub, process.id, grace_ms=0)


def test_a_handled_signal_leaves_the_exit_to_the_command(stub):
    id = start(stub, "trap 'exit 3' TERM; echo ready; while :; do sleep 0.02; done").id
    until(follow(stub, id), has_lines(1))
    send_signal(stub, id, "TERM")
    process = wait(stub, id).process
    assert process.status == EXITED
    assert process.exit_code == 3
    assert process.termination_reason == pb.TERMINATION_REASON_EXITED


def test_a_signal_goes_to_the_process_group(stub, told):
    process, events, ran = told
    send_signal(stub, process.id, "USR1")
    until(events, has_lines(5), ran)
    assert set(ran.lines[3:]) == {"leader got it", "child got it"}
    send_signal(stub, process.id, "USR1", TREE_SCOPE)
    until(events, has_lines(8), ran)
    assert ran.lines.count("stray got it") == 1


def test_a_signal_goes_to_the_leader_alone(stub, told):
    process, events, ran = told
    send_signal(stub, process.id, "USR1", LEADER)
    until(events, has_lines(4), ran)
    send_signal(stub, process.id, "USR1", TREE_SCOPE)
    until(events, has_lines(7), ran)
    assert sorted(ran.lines[3:]) == ["child got it"] + ["leader got it"] * 2 + ["stray got it"]


def test_a_signal_goes_to_the_whole_tree(stub, tree):
    process, pids = tree
    send_signal(stub, process.id, "KILL", TREE_SCOPE)
    assert wait(stub, process.id).process.signal == 9
    eventually(lambda: not any(map(alive, pids)), what="the end of every descendant")


def test_a_signal_to_an_ended_process_is_refused(stub):
    id = run(stub, "true").id
    for scope in (0, LEADER, TREE_SCOPE):
        with refused(Code.FAILED_PRECONDITION, "PROCESS_NOT_RUNNING"):
            send_signal(stub, id, "TERM", scope)


@pytest.mark.parametrize("name", ["TERM", "INT", "KILL"])
def test_a_queued_process_that_gets_it_never_starts(name, tmp_path):
    with gateway("--max-running", "1") as g:
        first = start(g.stub, "sleep 1000")
        queued = start(g.stub, f"touch {tmp_path}/ran")
        after = send_signal(g.stub, queued.id, name)
        assert after.id == queued.id
        process = wait(g.stub, queued.id).process
        assert process.status == KILLED
        assert process.termination_reason == pb.TERMINATION_REASON_STOPPED
        assert process.pid == process.started_at == 0
        stop(g.stub, first.id, grace_ms=0)
        run(g.stub, "true")
        assert not (tmp_path / "ran").exists()


def test_other_signals_to_a_queued_process_are_refused():
    with gateway("--max-running", "1") as g:
        start(g.stub, "sleep 1000")
        queued = start(g.stub, "true")
        for name in ("HUP", "USR1", "CONT"):
            with refused(Code.FAILED_PRECONDITION, "PROCESS_NOT_RUNNING"):
                send_signal(g.stub, queued.id, name)
        assert get(g.stub, queued.id).status == pb.PROCESS_STATUS_QUEUED


# StopProcess


def test_stop_returns_once_the_whole_tree_is_gone(stub, tree):
    process, pids = tree
    stopped = stop(stub, process.id)
    assert not any(map(alive, pids | {process.pid}))
    assert stopped.status == KILLED
    assert stopped.termination_reason == pb.TERMINATION_REASON_STOPPED
    assert stopped.ended_at > 0
    assert stopped.id == process.id


def test_stop_ends_descendants_that_ignore_term_and_left_the_group(stub):
    stray = """setsid sh -c 'trap "" TERM; echo $$; while :; do sleep 0.02; done' & """
    process = start(stub, stray + "sleep 1000")
    ran = until(follow(stub, process.id), has_lines(1))
    stop(stub, process.id, grace_ms=200)
    assert not alive(int(ran.stdout))


def test_stop_keeps_up_with_a_tree_that_forks_all_the_time(stub):
    forks = "while :; do (sleep 0.5 & sleep 0.5) & sleep 0.005; done"
    process = start(stub, f"trap '' TERM; {forks}", labels={"forks": "stop"})
    until_some = lambda: get(stub, process.id).status == pb.PROCESS_STATUS_RUNNING
    eventually(until_some)
    stop(stub, process.id, grace_ms=300)
    assert not alive(process.pid)


def test_stop_sends_term_first(stub):
    process = start(stub, "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.02; done")
    events = follow(stub, process.id)
    ran = until(events, has_lines(1))
    stopped = stop(stub, process.id)
    assert stopped.termination_reason == pb.TERMINATION_REASON_STOPPED
    assert collect(events, ran).stdout == b"ready\nbye\n"


def ignores_term(stub, **fields):
    command = "trap 'echo ignored' TERM; echo ready; while :; do sleep 0.02; done"
    process = start(stub, command, **fields)
    until(follow(stub, process.id), has_lines(1))
    return process


def test_stop_kills_after_the_grace_time_of_the_call(stub):
    process = ignores_term(stub, grace_ms=3_600_000)
    began = time.monotonic()
    stopped = stop(stub, process.id, grace_ms=400)
    assert time.monotonic() - began >= 0.4
    assert stopped.status == KILLED
    assert stopped.signal_name == "SIGKILL"
    assert wait(stub, process.id).stdout_data == b"ready\nignored\n"


def test_stop_kills_after_the_processs_own_grace_time():
    with gateway("--grace-period", "1h") as g:
        process = ignores_term(g.stub, grace_ms=400)
        began = time.monotonic()
        stop(g.stub, process.id)
        assert time.monotonic() - began >= 0.4


def test_stop_without_grace_kills_at_once(stub):
    process = ignores_term(stub, grace_ms=3_600_000)
    stopped = stop(stub, process.id, grace_ms=0)
    assert stopped.signal == 9
    assert wait(stub, process.id).stdout_data == b"ready\n"


def test_a_second_stop_can_shorten_the_first_ones_grace(stub):
    process = ignores_term(stub)
    first = stub.StopProcess.future(pb.StopProcessRequest(process_id=process.id, grace_ms=3_600_000))
    events = follow(stub, process.id)
    until(events, lambda ran: b"ignored" in ran.stdout)
    stop(stub, process.id, grace_ms=0)
    assert first.result().process.ended_at


def test_an_ended_process_is_returned_as_it_is(stub):
    process = run(stub, "exit 3").process
    assert stop(stub, process.id) == process
    assert stop(stub, process.id, grace_ms=0) == process


def test_a_queued_process_that_is_stopped_never_starts(tmp_path):
    with gateway("--max-running", "1") as g:
        first = start(g.stub, "sleep 1000")
        queued = start(g.stub, f"touch {tmp_path}/ran")
        stopped = stop(g.stub, queued.id)
        assert stopped.status == KILLED
        assert stopped.termination_reason == pb.TERMINATION_REASON_STOPPED
        assert stopped.pid == 0
        stop(g.stub, first.id, grace_ms=0)
        run(g.stub, "true")
        assert not (tmp_path / "ran").exists()


def test_a_stopped_process_is_stopped_though_it_was_suspended(stub):
    process = start(stub, "kill -STOP $$")
    eventually(lambda: open(f"/proc/{process.pid}/stat").read().rpartition(")")[2][1] == "T")
    stop(stub, process.id, grace_ms=300)
    assert not alive(process.pid)


def test_many_are_stopped_at_once_and_leave_no_zombie(shared):
    stub = shared.stub
    started = [start(stub, TREE, cwd="/") for _ in range(20)]
    calls = [
        stub.StopProcess.future(pb.StopProcessRequest(process_id=process.id)) for process in started
    ]
    for process, call in zip(started, calls):
        assert call.result().process.termination_reason == pb.TERMINATION_REASON_STOPPED
        assert not alive(process.pid)
    eventually(lambda: not zombies(shared.supervisor), what="the reaping of all")
