"""WriteStdin."""

import hashlib
import os

import grpc
import pytest

from contract import (
    Code,
    MiB,
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
    write,
)
from gateway import eventually, gateway

# Reads nothing until it gets a signal, then everything.
LATE = "trap 'go=1' USR1; echo ready; until [ $go ]; do sleep 0.02; done; sha256sum"


def late(stub):
    id = start(stub, LATE).id
    eventually(lambda: get(stub, id).stdout_bytes == 6, what="the command's readiness")
    return id


def test_the_process_reads_what_was_written(stub):
    id = start(stub, "read a; echo got $a; read b; echo got $b").id
    assert write(stub, id, b"one\n") == 4
    events = follow(stub, id)
    ran = until(events, has_lines(1))
    assert write(stub, id, b"two\n") == 8
    collect(events, ran)
    assert ran.stdout == b"got one\ngot two\n"


def test_eof_closes_stdin_after_the_data(stub):
    id = start(stub, "wc -c").id
    assert write(stub, id, b"12345", eof=True) == 5
    result = wait(stub, id)
    assert result.stdout_data.strip() == b"5"
    assert result.process.stdin_closed


def test_eof_without_data_closes_stdin(stub):
    id = start(stub, "wc -c").id
    write(stub, id, b"abc")
    assert write(stub, id, eof=True) == 3
    assert wait(stub, id).stdout_data.strip() == b"3"


def test_a_write_without_data_tells_how_much_was_accepted(stub):
    id = start(stub, "cat").id
    assert write(stub, id) == 0
    write(stub, id, b"abc")
    assert write(stub, id) == 3
    write(stub, id, eof=True)
    assert wait(stub, id).stdout_data == b"abc"


def test_a_write_after_eof_is_refused(stub):
    id = start(stub, "cat; sleep 1000").id
    write(stub, id, b"x", eof=True)
    with refused(Code.FAILED_PRECONDITION, "STDIN_CLOSED"):
        write(stub, id, b"y")
    stop(stub, id, grace_ms=0)


def test_a_write_to_an_ended_process_is_refused(stub):
    id = start(stub, "true").id
    wait(stub, id)
    with refused(Code.FAILED_PRECONDITION, "PROCESS_NOT_RUNNING"):
        write(stub, id, b"x")


def test_a_write_where_there_is_no_stdin_is_refused(stub):
    id = start(stub, "sleep 1000", no_stdin=True).id
    with refused(Code.FAILED_PRECONDITION, "STDIN_CLOSED"):
        write(stub, id, b"x")
    stop(stub, id, grace_ms=0)


def test_a_write_to_a_process_that_closed_its_stdin_is_refused(stub):
    id = start(stub, "exec <&-; echo closed; sleep 1000").id
    eventually(lambda: get(stub, id).stdout_bytes == 7)
    with refused(Code.FAILED_PRECONDITION, "STDIN_CLOSED"):
        write(stub, id, b"x")
    assert get(stub, id).status == pb.PROCESS_STATUS_RUNNING
    stop(stub, id, grace_ms=0)


def test_a_write_that_waits_is_refused_when_the_process_closes_its_stdin(stub):
    id = start(stub, "head -c 10 >/dev/null; exec <&-; sleep 1000").id
    with refused(Code.FAILED_PRECONDITION, "STDIN_CLOSED"):
        write(stub, id, bytes(8 * MiB))
    stop(stub, id, grace_ms=0)


def test_a_write_that_waits_is_refused_when_the_process_ends(stub):
    id = start(stub, "sleep 0.3").id
    with pytest.raises(grpc.RpcError) as caught:
        write(stub, id, bytes(8 * MiB))
    assert caught.value.code() == Code.FAILED_PRECONDITION


def test_a_write_to_the_stdin_that_an_exec_has_given_whole_is_refused(stub):
    events = stub.Exec(pb.ExecRequest(process=pb.ProcessSpec(command="sleep 1000")))
    id = next(events).started.id
    with refused(Code.FAILED_PRECONDITION, "STDIN_CLOSED"):
        write(stub, id, b"x")
    events.cancel()


def test_a_write_returns_only_once_every_byte_was_taken(stub):
    id = late(stub)
    data = os.urandom(4 * MiB)
    call = stub.WriteStdin.future(pb.WriteStdinRequest(process_id=id, data=data, eof=True))
    with pytest.raises(grpc.FutureTimeoutError):
        call.result(timeout=0.5)
    assert get(stub, id).stdin_bytes < len(data)
    send_signal(stub, id, "USR1", pb.SIGNAL_SCOPE_LEADER)
    assert call.result().stdin_bytes == len(data)
    assert hashlib.sha256(data).hexdigest().encode() in wait(stub, id).stdout_data


def test_a_write_that_waits_holds_back_nothing_else(stub):
    id = late(stub)
    call = stub.WriteStdin.future(pb.WriteStdinRequest(process_id=id, data=bytes(4 * MiB)))
    for _ in range(10):
        assert run(stub, "echo x").stdout == b"x\n"
    assert not call.done()
    assert stop(stub, id, grace_ms=0).ended_at
    assert call.exception().code() == Code.FAILED_PRECONDITION


def test_writes_arrive_in_the_order_they_were_accepted(stub):
    id = start(stub, "cat").id
    for i in range(200):
        write(stub, id, b"%d\n" % i)
    write(stub, id, eof=True)
    assert wait(stub, id).stdout_data.split() == [b"%d" % i for i in range(200)]


def test_a_repeat_at_its_offset_is_skipped(stub):
    id = start(stub, "cat").id
    assert write(stub, id, b"hello ", offset=0) == 6
    assert write(stub, id, b"hello ", offset=0) == 6
    assert write(stub, id, b"world", offset=6) == 11
    assert write(stub, id, b"hello ", offset=0) == 11
    write(stub, id, eof=True)
    assert wait(stub, id).stdout_data == b"hello world"


def test_the_new_part_of_a_repeat_is_written(stub):
    id = start(stub, "cat").id
    write(stub, id, b"abcdef", offset=0)
    assert write(stub, id, b"cdefgh", offset=2) == 8
    assert write(stub, id, b"abcdefghij", offset=0, eof=True) == 10
    assert wait(stub, id).stdout_data == b"abcdefghij"


def test_a_write_beyond_what_was_accepted_is_a_gap(stub):
    id = start(stub, "cat").id
    write(stub, id, b"abc")
    for offset in (4, 1000, 2**64 - 1):
        with refused(Code.OUT_OF_RANGE, "STDIN_GAP"):
            write(stub, id, b"x", offset=offset)
    assert write(stub, id, b"d", offset=3, eof=True) == 4
    assert wait(stub, id).stdout_data == b"abcd"


def test_a_repeat_of_the_write_that_closed_stdin_succeeds(stub):
    id = start(stub, "cat; sleep 1000").id
    assert write(stub, id, b"all", offset=0, eof=True) == 3
    assert write(stub, id, b"all", offset=0, eof=True) == 3
    with refused(Code.FAILED_PRECONDITION, "STDIN_CLOSED"):
        write(stub, id, b"more", offset=3)
    assert collect(follow(stub, id, no_follow=True)).stdout in (b"", b"all")
    stop(stub, id, grace_ms=0)


def test_a_write_that_was_cancelled_can_be_repeated_from_where_it_came(stub):
    id = late(stub)
    data = os.urandom(4 * MiB)
    with refused(Code.DEADLINE_EXCEEDED):
        stub.WriteStdin(
            pb.WriteStdinRequest(process_id=id, data=data, eof=True, offset=0), timeout=0.5
        )
    call = stub.WriteStdin.future(
        pb.WriteStdinRequest(process_id=id, data=data, eof=True, offset=0)
    )
    send_signal(stub, id, "USR1", pb.SIGNAL_SCOPE_LEADER)
    assert call.result().stdin_bytes == len(data)
    assert hashlib.sha256(data).hexdigest().encode() in wait(stub, id).stdout_data


def test_writes_of_many_callers_are_not_mixed_within_one(stub):
    id = start(stub, "cat").id
    calls = [
        stub.WriteStdin.future(pb.WriteStdinRequest(process_id=id, data=b"%02d" % i * 2000 + b"\n"))
        for i in range(30)
    ]
    for call in calls:
        call.result()
    write(stub, id, eof=True)
    lines = wait(stub, id).stdout_data.splitlines()
    assert sorted(lines) == [b"%02d" % i * 2000 for i in range(30)]


def test_stdin_bytes_are_counted_in_the_process(stub):
    id = start(stub, "cat >/dev/null").id
    assert write(stub, id, bytes(3 * MiB)) == 3 * MiB
    assert get(stub, id).stdin_bytes == 3 * MiB
    write(stub, id, eof=True)
    assert wait(stub, id).process.stdin_bytes == 3 * MiB


def test_a_process_that_is_stopped_while_a_write_waits_ends_at_once():
    with gateway() as g:
        id = late(g.stub)
        call = g.stub.WriteStdin.future(pb.WriteStdinRequest(process_id=id, data=bytes(8 * MiB)))
        stop(g.stub, id, grace_ms=0)
        assert call.exception().code() == Code.FAILED_PRECONDITION
