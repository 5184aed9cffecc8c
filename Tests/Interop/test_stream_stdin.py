"""StreamStdin."""

import hashlib
import os
import threading

import pytest

from contract import Code, MiB, get, pb, refused, send_signal, start, stop, wait, write
from gateway import eventually, gateway, resident, standstill

pytestmark = pytest.mark.issue3


def messages(id, data, size=65536, eof=True, **first):
    """The data in pieces; the first message alone names the process."""
    pieces = [data[i : i + size] for i in range(0, len(data), size)] or [b""]
    for i, piece in enumerate(pieces):
        last = i == len(pieces) - 1
        named = dict(process_id=id, **first) if i == 0 else {}
        yield pb.StreamStdinRequest(data=piece, eof=eof and last, **named)


def stream(stub, id, data=b"", **options):
    return stub.StreamStdin(messages(id, data, **options)).stdin_bytes


def test_a_large_input_arrives_whole(stub):
    data = os.urandom(30 * MiB + 17)
    id = start(stub, "sha256sum").id
    assert stream(stub, id, data) == len(data)
    result = wait(stub, id)
    assert result.stdout_data.split()[0].decode() == hashlib.sha256(data).hexdigest()
    assert result.process.stdin_bytes == len(data)


def test_pieces_of_every_size_arrive_in_order(stub):
    data = b"".join(b"%07d\n" % i for i in range(5000))
    for size in (1, 7, 1000, 16384, 100_000) if len(data) < 50_000 else (13, 1000, 40_000):
        id = start(stub, "cat").id
        assert stream(stub, id, data, size=size) == len(data)
        assert wait(stub, id).stdout_data == data


def test_without_eof_stdin_stays_open(stub):
    id = start(stub, "cat").id
    assert stream(stub, id, b"one ", eof=False) == 4
    assert not get(stub, id).stdin_closed
    assert stream(stub, id, b"two", eof=False) == 7
    write(stub, id, b"!", eof=True)
    assert wait(stub, id).stdout_data == b"one two!"


def test_an_input_goes_on_at_its_offset(stub):
    id = start(stub, "cat").id
    assert stream(stub, id, b"hello", eof=False, offset=0) == 5
    assert stream(stub, id, b"hello, world", size=3, offset=0) == 12
    assert wait(stub, id).stdout_data == b"hello, world"


def test_an_offset_beyond_what_was_accepted_is_a_gap(stub):
    id = start(stub, "cat").id
    with refused(Code.OUT_OF_RANGE, "STDIN_GAP"):
        stream(stub, id, b"x", offset=1)
    stop(stub, id, grace_ms=0)


def test_the_first_message_names_the_process(stub):
    with refused(Code.NOT_FOUND, "PROCESS_NOT_FOUND"):
        stream(stub, "none", b"x")
    with refused(Code.NOT_FOUND, "PROCESS_NOT_FOUND"):
        stream(stub, "", b"x")


def test_an_input_without_a_message_is_refused(stub):
    with refused(Code.INVALID_ARGUMENT, "REQUEST_INVALID"):
        stub.StreamStdin(iter([]))


def test_an_input_to_an_ended_process_is_refused(stub):
    id = start(stub, "true").id
    wait(stub, id)
    with refused(Code.FAILED_PRECONDITION, "PROCESS_NOT_RUNNING"):
        stream(stub, id, b"x")


def test_an_input_where_stdin_is_closed_is_refused(stub):
    id = start(stub, "sleep 1000", no_stdin=True).id
    with refused(Code.FAILED_PRECONDITION, "STDIN_CLOSED"):
        stream(stub, id, b"x")
    stop(stub, id, grace_ms=0)


def test_a_process_that_stops_reading_ends_the_call_early(stub):
    id = start(stub, "head -c 100000 >/dev/null; exec <&-; sleep 1000").id
    with refused(Code.FAILED_PRECONDITION, "STDIN_CLOSED"):
        stub.StreamStdin(unending(id))
    stop(stub, id, grace_ms=0)


def unending(id, sent=None, over=None):
    block = bytes(65536)
    yield pb.StreamStdinRequest(process_id=id, data=block)
    while not (over and over.is_set()):
        if sent is not None:
            sent.append(len(block))
        yield pb.StreamStdinRequest(data=block)


def test_the_caller_is_held_to_what_the_process_reads():
    with gateway() as g:
        stub = g.stub
        id = start(
            stub, "trap 'go=1' USR1; echo x; until [ $go ]; do sleep 0.02; done; cat >/dev/null"
        ).id
        eventually(lambda: get(stub, id).stdout_bytes == 2)
        idle = resident(g.pid) + resident(g.supervisor)
        sent, over = [], threading.Event()
        call = g.connect().StreamStdin.future(unending(id, sent, over))
        # The kernel's buffers for each connection on the way hold 10 MiB.
        held = standstill(lambda: sum(sent))
        assert held < 128 * MiB
        assert resident(g.pid) + resident(g.supervisor) - idle < 24 * MiB
        send_signal(stub, id, "USR1", pb.SIGNAL_SCOPE_LEADER)
        eventually(lambda: sum(sent) > held + 64 * MiB, what="the caller to go on")
        over.set()
        accepted = call.result().stdin_bytes
        assert accepted == sum(sent) + 65536
        write(stub, id, eof=True)
        assert wait(stub, id).process.stdin_bytes == accepted


def test_thirty_megabytes_at_a_megabyte_each_tenth_of_a_second_do_not_gather():
    with gateway() as g:
        command = "for i in $(seq 30); do head -c 1048576; sleep 0.1; done | sha256sum"
        id = start(g.stub, command).id
        idle = resident(g.pid) + resident(g.supervisor)
        data, peak, over = os.urandom(30 * MiB), [0], threading.Event()

        def sample():
            while not over.wait(0.02):
                peak[0] = max(peak[0], resident(g.pid) + resident(g.supervisor))

        sampler = threading.Thread(target=sample)
        sampler.start()
        try:
            assert stream(g.stub, id, data) == len(data)
        finally:
            over.set()
            sampler.join()
        assert hashlib.sha256(data).hexdigest().encode() in wait(g.stub, id).stdout_data
        assert peak[0] - idle < 16 * MiB


def test_a_cancelled_input_leaves_the_process_and_its_stdin_alone(stub):
    id = start(stub, "cat >/dev/null; exit 3").id
    call = stub.StreamStdin.future(unending(id))
    eventually(lambda: get(stub, id).stdin_bytes > MiB)
    call.cancel()
    assert get(stub, id).status == pb.PROCESS_STATUS_RUNNING
    assert not get(stub, id).stdin_closed
    write(stub, id, eof=True)
    assert wait(stub, id).process.exit_code == 3


def test_messages_after_eof_are_refused(stub):
    id = start(stub, "cat; sleep 1000").id
    requests = [
        pb.StreamStdinRequest(process_id=id, data=b"a", eof=True),
        pb.StreamStdinRequest(data=b"b"),
    ]
    with refused(Code.FAILED_PRECONDITION, "STDIN_CLOSED"):
        stub.StreamStdin(iter(requests))
    stop(stub, id, grace_ms=0)
