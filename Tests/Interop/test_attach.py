"""Attach without a terminal."""

import pytest

from contract import (
    EXITED,
    KEEP,
    KILL,
    KILLED,
    RUNNING,
    Code,
    MiB,
    follow,
    get,
    has_lines,
    pb,
    refused,
    start,
    stop,
    until,
    wait,
    write,
)
from gateway import alive, eventually, gateway
from programs import TREE, tree_pids
from relay import Relay
from session import Session, attach, join

pytestmark = pytest.mark.issue3
READS = 'while read x; do echo "got $x"; done; echo end; exit 3'


def test_a_session_starts_a_process_and_ends_with_it(stub):
    ran = attach(stub, "echo out; echo err >&2; exit 4").end()
    kinds = [kind for kind in ran.events if kind != "keep_alive"]
    assert kinds[0] == "started" and kinds[-1] == "exited"
    assert (ran.stdout, ran.stderr) == (b"out\n", b"err\n")
    assert ran.started.status == RUNNING
    assert ran.process.exit_code == 4


def test_input_goes_in_and_output_comes_out(stub):
    session = attach(stub, READS)
    for word in ("one", "two", "three"):
        session.type(word + "\n")
        session.sees(f"got {word}\n")
    session.send(eof=True)
    ran = session.end()
    assert ran.stdout == b"end\n"
    assert ran.process.exit_code == 3
    assert ran.process.stdin_bytes == 14


def test_the_caller_may_send_no_more_and_still_gets_the_rest(stub):
    session = attach(stub, "sleep 0.2; echo late")
    session.close()
    ran = session.end()
    assert ran.stdout == b"late\n"
    assert ran.process.status == EXITED


def test_a_session_joins_a_process_and_replays_from_where_it_says(stub):
    id = start(stub, READS).id
    for i in (1, 2, 3):
        write(stub, id, b"%d\n" % i)
        eventually(lambda i=i: get(stub, id).last_seq == i)
    session = join(stub, id, from_seq=2)
    session.until(has_lines(2))
    assert session.ran.lines == ["got 2", "got 3"]
    session.type("hello\n")
    session.sees("got hello\n")
    session.send(eof=True)
    ran = session.end()
    assert ran.started is None
    assert ran.process.exit_code == 3


def test_two_sessions_share_a_process(stub):
    one = attach(stub, READS)
    one.until(lambda ran: ran.started)
    two = join(stub, one.ran.id)
    one.type("from one\n")
    two.sees("got from one\n")
    two.type("from two\n")
    one.sees("got from two\n")
    two.send(eof=True)
    assert one.end().process == two.end().process


def test_what_a_lost_session_sent_late_is_not_written(stub):
    """Its caller has gone on by another call, which names it."""
    process = start(stub, "cat")
    names = [(("procgate-session", name),) for name in ("lost", "later")]
    after = [(("procgate-after-session", name),) for name in ("lost", "later")]
    lost = join(stub, process.id, metadata=names[0])
    lost.type("1\n")
    lost.sees("1\n")

    def write(data, offset, metadata):
        request = pb.WriteStdinRequest(process_id=process.id, data=data, offset=offset)
        return stub.WriteStdin(request, metadata=metadata).stdin_bytes

    assert write(b"2\n", 2, after[0]) == 4
    lost.type("late\n")
    lost.send(signal="KILL")
    lost.send(eof=True)
    # What has not even come is refused when it does.
    assert write(b"3\n", 4, after[1]) == 6
    with refused(Code.ABORTED, "SESSION_SUPERSEDED"):
        join(stub, process.id, metadata=names[1]).end()
    shared = join(stub, process.id)
    shared.type("4\n")
    lost.sees("4\n")
    shared.send(eof=True)
    assert shared.end().stdout == b"1\n2\n3\n4\n"
    lost.end()


def test_a_session_sends_signals(stub):
    for spelling in ("INT", "SIGINT", "2"):
        session = attach(
            stub, "trap 'echo caught; exit 8' INT; echo ready; while :; do sleep 0.02; done"
        )
        session.sees("ready\n")
        session.send(signal=spelling)
        ran = session.end()
        assert ran.stdout == b"caught\n"
        assert ran.process.exit_code == 8


def test_a_sessions_signal_goes_to_the_process_group(stub):
    say = """say() { trap "echo $1" USR1; echo ready; while :; do sleep 0.02; done; }"""
    session = attach(stub, f"{say}; (say child) & say leader")
    session.until(has_lines(2))
    session.send(signal="USR1")
    session.until(has_lines(4))
    assert set(session.ran.lines[2:]) == {"child", "leader"}
    session.cancel()


def test_what_is_no_signal_is_refused(stub):
    session = attach(stub, "sleep 1000", on_disconnect=KILL)
    session.until(lambda ran: ran.started)
    session.send(signal="NOPE")
    with refused(Code.INVALID_ARGUMENT, "SIGNAL_INVALID"):
        session.end()


def test_a_resize_without_a_terminal_is_refused(stub):
    session = attach(stub, "sleep 1000")
    session.until(lambda ran: ran.started)
    session.send(resize=pb.TerminalSize(columns=80, rows=25))
    with refused(Code.FAILED_PRECONDITION, "NO_TERMINAL"):
        session.end()


def test_a_refused_input_ends_the_session_and_what_depends_on_it(stub):
    for input in (dict(signal="NOPE"), dict(resize=pb.TerminalSize(columns=80, rows=25))):
        for policy in (KILL, KEEP):
            session = attach(stub, "echo up; read x; echo got $x", on_disconnect=policy)
            session.until(has_lines(1))
            session.send(**input)
            code = Code.INVALID_ARGUMENT if "signal" in input else Code.FAILED_PRECONDITION
            with refused(code):
                session.end()
            if policy == KEEP:
                write(stub, session.ran.id, b"it\n")
                result = wait(stub, session.ran.id)
                assert result.process.termination_reason == pb.TERMINATION_REASON_EXITED
                assert result.stdout_data == b"up\ngot it\n"
            else:
                gone = wait(stub, session.ran.id).process
                assert gone.termination_reason == pb.TERMINATION_REASON_CALLER_GONE


def test_the_end_of_an_input_that_is_none_is_no_failure(stub):
    session = attach(stub, "echo up; sleep 0.2; echo down", no_stdin=True)
    session.send(eof=True)
    ran = session.end()
    assert ran.stdout == b"up\ndown\n"


def test_a_signal_does_not_wait_behind_input_that_nobody_reads(stub):
    session = attach(
        stub, "trap 'echo caught; exit 8' INT; echo ready; while :; do sleep 0.02; done"
    )
    session.sees("ready\n")
    for _ in range(5):
        session.type(b"x" * 100_000)
    session.send(signal="INT")
    ran = session.end()
    assert ran.stdout == b"caught\n"
    assert ran.process.exit_code == 8


def test_a_session_without_start_or_join_is_refused(stub):
    for first in (dict(stdin_data=b"x"), dict(eof=True), dict(signal="INT"), {}):
        session = Session(stub, **first)
        with refused(Code.INVALID_ARGUMENT, "REQUEST_INVALID"):
            session.end()
    session = Session(stub, join=pb.StreamOutputRequest(process_id="none"))
    with refused(Code.NOT_FOUND, "PROCESS_NOT_FOUND"):
        session.end()
    with refused(Code.INVALID_ARGUMENT, "REQUEST_INVALID"):
        list(stub.Attach(iter([])))


def test_a_second_start_or_join_is_refused(stub):
    session = attach(stub, "sleep 1000")
    session.until(lambda ran: ran.started)
    session.send(start=pb.StartProcessRequest(process=pb.ProcessSpec(command="true")))
    with refused(Code.INVALID_ARGUMENT, "REQUEST_INVALID"):
        session.end()


def test_errors_of_a_start_are_those_of_exec(stub):
    for reason, fields in (
        ("COMMAND_REQUIRED", dict(command="")),
        ("CWD_INVALID", dict(command="true", cwd="/no/such")),
        ("USER_UNKNOWN", dict(command="true", run_as="no-such-user")),
        ("TERMINAL_INVALID", dict(command="true", terminal=pb.TerminalSize(columns=70000, rows=1))),
    ):
        with refused(Code.INVALID_ARGUMENT, reason):
            attach(stub, **fields).end()


def test_input_after_eof_is_refused(stub):
    session = attach(stub, "cat; sleep 1000")
    session.send(eof=True)
    session.type("late")
    with refused(Code.FAILED_PRECONDITION, "STDIN_CLOSED"):
        session.end()


def test_a_session_that_started_kills_its_tree_when_its_caller_goes(stub):
    session = attach(stub, TREE)
    session.until(has_lines(4))
    pids = tree_pids(session.ran.stdout)
    session.cancel()
    process = wait(stub, session.ran.id).process
    assert process.status == KILLED
    assert process.termination_reason == pb.TERMINATION_REASON_CALLER_GONE
    eventually(lambda: not any(map(alive, pids)))


def test_a_session_that_started_can_keep_its_process(stub):
    session = attach(stub, "echo x; sleep 0.5; echo kept", on_disconnect=KEEP)
    session.until(has_lines(1))
    session.cancel()
    assert wait(stub, session.ran.id).stdout_data == b"x\nkept\n"


def test_a_session_that_joined_leaves_the_process_alone(stub):
    id = start(stub, "echo x; read y; echo $y").id
    session = join(stub, id)
    session.until(has_lines(1))
    session.cancel()
    write(stub, id, b"still\n")
    assert wait(stub, id).stdout_data == b"x\nstill\n"


def test_a_session_that_joined_can_take_the_process_with_it(stub):
    id = start(stub, "echo x; sleep 1000").id
    session = join(stub, id, on_disconnect=KILL)
    session.until(has_lines(1))
    session.cancel()
    process = wait(stub, id).process
    assert process.termination_reason == pb.TERMINATION_REASON_CALLER_GONE


def test_a_session_that_loses_its_connection_kills_what_it_started(shared):
    with Relay(shared.address) as relay:
        session = attach(shared.connect(target=relay.address), "echo x; sleep 1000")
        session.until(has_lines(1))
        relay.cut()
        with refused(Code.UNAVAILABLE):
            session.end()
    process = wait(shared.stub, session.ran.id).process
    assert process.termination_reason == pb.TERMINATION_REASON_CALLER_GONE


def test_a_session_may_be_told_that_it_waits():
    with gateway("--max-running", "1") as g:
        first = start(g.stub, "sleep 1000")
        session = attach(g.stub, "echo mine")
        session.until(lambda ran: ran.queued)
        stop(g.stub, first.id, grace_ms=0)
        ran = session.end()
        assert ran.events[0] == "queued" and ran.started
        assert ran.stdout == b"mine\n"


def test_a_session_streams_a_large_input_back(stub):
    data = b"".join(b"%09d\n" % i for i in range(600_000))
    session = attach(stub, "cat")
    for i in range(0, len(data), 50_000):
        session.type(data[i : i + 50_000])
    session.send(eof=True)
    assert session.end().stdout == data


def test_a_session_whose_reader_is_slow_is_held_to_retention_or_held_back(shared):
    """A started session is lossless while its caller reads at all."""
    session = attach(shared.connect(), "seq 1 2000000")
    session.until(lambda ran: ran.chunks)
    follow(shared.stub, session.ran.id).cancel()
    try:
        ran = session.end()
    except Exception as error:
        assert error.code() == Code.OUT_OF_RANGE
    else:
        assert len(ran.stdout) == ran.process.stdout_bytes > 8 * MiB


def test_a_joined_session_ends_when_the_process_does(stub):
    id = start(stub, "exit 5").id
    wait(stub, id)
    ran = join(stub, id).end()
    assert ran.events == ["exited"]
    assert ran.process.exit_code == 5


def test_no_stdin_is_dev_null(stub):
    ran = attach(stub, "readlink /proc/self/fd/0", no_stdin=True).end()
    assert ran.stdout == b"/dev/null\n"
    assert until(follow(stub, ran.id), lambda ran: ran.exited)
