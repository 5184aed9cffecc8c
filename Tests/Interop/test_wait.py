"""Wait and DeleteProcess, and how long an ended process is remembered."""

import time

import grpc
import pytest

from contract import (
    EXITED,
    RUNNING,
    Code,
    MiB,
    delete,
    follow,
    get,
    listing,
    pb,
    refused,
    run,
    start,
    stop,
    wait,
    write,
)
from gateway import eventually, gateway
from programs import paced


def test_wait_returns_once_the_process_has_ended(stub):
    id = start(stub, "read x; echo out; echo err >&2; exit 6").id
    call = stub.Wait.future(pb.WaitRequest(process_id=id))
    with pytest.raises(grpc.FutureTimeoutError):
        call.result(timeout=0.2)
    write(stub, id, b"\n")
    result = call.result().result
    assert result.process.status == EXITED
    assert result.process.exit_code == 6
    assert result.stdout_data == b"out\n"
    assert result.stderr_data == b"err\n"


def test_wait_for_an_ended_process_returns_at_once_and_again(stub):
    id = run(stub, "echo x").id
    assert wait(stub, id) == wait(stub, id)


def test_a_wait_that_times_out_leaves_the_process_running(stub):
    id = start(stub, "read x; exit 1").id
    began = time.monotonic()
    with refused(Code.DEADLINE_EXCEEDED, "WAIT_TIMED_OUT"):
        wait(stub, id, timeout_ms=300)
    assert time.monotonic() - began >= 0.3
    assert get(stub, id).status == RUNNING
    write(stub, id, b"\n")
    assert wait(stub, id, timeout_ms=20_000).process.exit_code == 1


def test_a_wait_past_the_calls_deadline_leaves_the_process_running(stub):
    id = start(stub, "read x; exit 1").id
    with refused(Code.DEADLINE_EXCEEDED):
        stub.Wait(pb.WaitRequest(process_id=id), timeout=0.3)
    assert get(stub, id).status == RUNNING
    stop(stub, id, grace_ms=0)


def test_many_wait_for_one_process(stub):
    id = start(stub, "read x; exit 9").id
    calls = [stub.Wait.future(pb.WaitRequest(process_id=id)) for _ in range(50)]
    write(stub, id, b"\n")
    assert {call.result().result.process.exit_code for call in calls} == {9}


def test_the_newest_output_is_returned(stub):
    id = start(stub, "for i in 1 2 3 4 5; do echo line $i; sleep 0.02; done").id
    whole = b"".join(b"line %d\n" % i for i in range(1, 6))
    for most in (1, 5, 7, 8, 20, 34):
        result = wait(stub, id, max_output_bytes=most)
        assert result.stdout_data == whole[-most:]
        assert result.output_truncated
    for most in (35, 36, 1000):
        result = wait(stub, id, max_output_bytes=most)
        assert result.stdout_data == whole
        assert not result.output_truncated


def test_the_most_output_counts_both_streams_together(stub):
    id = paced(stub, ["printf old", "printf err >&2", "printf new"])
    for most, out, err in (
        (3, b"new", b""),
        (5, b"new", b"rr"),
        (6, b"new", b"err"),
        (7, b"dnew", b"err"),
    ):
        result = wait(stub, id, max_output_bytes=most)
        assert (result.stdout_data, result.stderr_data) == (out, err)
        assert result.output_truncated
    result = wait(stub, id, max_output_bytes=9)
    assert (result.stdout_data, result.stderr_data) == (b"oldnew", b"err")
    assert not result.output_truncated


def test_three_megabytes_are_returned_by_default(stub):
    id = start(stub, "head -c 5000000 /dev/zero; echo the end").id
    result = wait(stub, id)
    assert len(result.stdout_data) == 3 * MiB
    assert result.stdout_data.endswith(b"the end\n")
    assert result.output_truncated


def test_more_is_returned_where_the_caller_asks_for_it(shared):
    stub = shared.connect(max_receive_message_length=-1)
    id = start(stub, "head -c 7000000 /dev/zero").id
    result = wait(stub, id, max_output_bytes=8 * MiB)
    assert len(result.stdout_data) == 7_000_000
    assert not result.output_truncated


def test_output_that_was_dropped_makes_the_result_truncated(stub):
    policy = pb.OutputPolicy(retain_bytes=MiB)
    id = start(stub, "seq 1 1000000", output=policy).id
    result = wait(stub, id)
    assert result.output_truncated
    assert result.stdout_data.endswith(b"\n999999\n1000000\n")
    assert 512 * 1024 <= len(result.stdout_data) <= 2 * MiB


def test_wait_for_a_queued_process_waits_for_its_turn():
    with gateway("--max-running", "1") as g:
        first = start(g.stub, "sleep 1000")
        call = g.stub.Wait.future(pb.WaitRequest(process_id=start(g.stub, "echo turn").id))
        with refused(Code.DEADLINE_EXCEEDED, "WAIT_TIMED_OUT"):
            wait(g.stub, first.id, timeout_ms=200)
        assert not call.done()
        stop(g.stub, first.id, grace_ms=0)
        assert call.result().result.stdout_data == b"turn\n"


def test_a_waiter_that_goes_leaves_the_process_alone(stub):
    id = start(stub, "read x; exit 5").id
    call = stub.Wait.future(pb.WaitRequest(process_id=id))
    call.cancel()
    write(stub, id, b"\n")
    assert wait(stub, id).process.exit_code == 5


# DeleteProcess


def test_a_deleted_process_is_forgotten(stub):
    id = run(stub, "echo x", labels={"deleted": "one"}).id
    delete(stub, id)
    assert not listing(stub, labels={"deleted": "one"}).processes
    for call in (get, wait, delete, stop):
        with refused(Code.NOT_FOUND, "PROCESS_NOT_FOUND"):
            call(stub, id)
    with refused(Code.NOT_FOUND, "PROCESS_NOT_FOUND"):
        list(follow(stub, id))


def test_a_running_process_is_not_deleted(stub):
    id = start(stub, "sleep 1000").id
    with refused(Code.FAILED_PRECONDITION, "PROCESS_RUNNING"):
        delete(stub, id)
    assert get(stub, id).status == RUNNING
    stop(stub, id, grace_ms=0)
    delete(stub, id)


def test_a_queued_process_is_not_deleted():
    with gateway("--max-running", "1") as g:
        start(g.stub, "sleep 1000")
        id = start(g.stub, "true").id
        with refused(Code.FAILED_PRECONDITION, "PROCESS_RUNNING"):
            delete(g.stub, id)


def test_deleting_frees_the_output_for_others():
    with gateway("--retain-bytes", "4MiB", "--max-output-memory", "8MiB") as g:
        keep = run(g.stub, "head -c 2000000 /dev/zero; echo kept").id
        for _ in range(10):
            delete(g.stub, run(g.stub, "head -c 3000000 /dev/zero").id)
        assert wait(g.stub, keep).stdout_data.endswith(b"kept\n")
        assert not wait(g.stub, keep).output_truncated


def test_a_reader_keeps_its_place_while_the_process_is_deleted(shared):
    """It gets the whole replay, or is told that it is gone; never other bytes."""
    stub = shared.connect()
    id = run(shared.stub, "seq 1 900000").id
    events = follow(stub, id)
    first = next(events).output.data
    delete(shared.stub, id)
    others = [start(shared.stub, "head -c 6000000 /dev/zero | tr '\\0' x").id for _ in range(4)]
    for other in others:
        wait(shared.stub, other, max_output_bytes=1)
    data = [first]
    try:
        data += [event.output.data for event in events]
    except grpc.RpcError as error:
        assert error.code() in (Code.NOT_FOUND, Code.OUT_OF_RANGE, Code.ABORTED)
    whole = "".join(f"{i}\n" for i in range(1, 900001)).encode()
    assert whole.startswith(b"".join(data))


def test_an_ended_process_is_forgotten_after_the_retain_time():
    with gateway("--retain-time", "1s") as g:
        process = run(g.stub, "true").process
        running = start(g.stub, "sleep 1000")

        def forgotten():
            try:
                get(g.stub, process.id)
            except grpc.RpcError as error:
                assert error.code() == Code.NOT_FOUND
                return True

        assert get(g.stub, process.id) == process
        eventually(forgotten, what="the process to be forgotten")
        assert time.time() * 1000 >= process.expires_at - 50
        assert get(g.stub, running.id).status == RUNNING
