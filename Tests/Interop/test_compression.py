"""gzip and identity, in both directions, message by message."""

import gzip
import os
import struct

import grpc
import pytest

from contract import MiB, begin, collect, exec_request, info, pb, run, start
from gateway import gateway, resident
from wire import SERVICE, Connection, message

pytestmark = pytest.mark.issue3
INFO, GET, EXEC = SERVICE + "GetGateway", SERVICE + "GetProcess", SERVICE + "Exec"


@pytest.fixture
def wire(shared):
    with Connection(shared.address, shared.token) as connection:
        yield connection


def packed(request):
    return message(gzip.compress(request.SerializeToString()), compressed=1)


def messages(response):
    """Flag and payload of each message."""
    data, found = response.data, []
    while data:
        flag, length = struct.unpack(">BI", data[:5])
        found.append((flag, data[5 : 5 + length]))
        data = data[5 + length :]
    return found


def events(response):
    return [
        pb.ProcessEvent.FromString(gzip.decompress(payload) if flag else payload)
        for flag, payload in messages(response)
    ]


def output(response):
    return b"".join(event.output.data for event in events(response))


def test_gzip_is_announced(wire):
    accepted = wire.call(INFO).headers["grpc-accept-encoding"].replace(" ", "").split(",")
    assert {"gzip", "identity"} <= set(accepted)


def test_a_compressed_request_is_read(wire):
    response = wire.call(EXEC, packed(exec_request("echo packed")), grpc_encoding="gzip")
    assert response.status == 0
    assert output(response) == b"packed\n"


def test_each_message_says_whether_it_is_compressed(wire):
    plain = message(exec_request("echo plain").SerializeToString())
    assert output(wire.call(EXEC, plain, grpc_encoding="gzip")) == b"plain\n"
    assert output(wire.call(EXEC, plain, grpc_encoding="identity")) == b"plain\n"


def test_an_unknown_encoding_is_unimplemented_and_the_known_are_told(wire):
    for encoding in ("br", "snappy", "zstd", "x"):
        response = wire.call(EXEC, packed(exec_request("true")), grpc_encoding=encoding)
        assert response.status == 12
        told = response.headers | response.trailers
        assert "gzip" in told["grpc-accept-encoding"]


def test_a_compressed_flag_with_identity_is_internal(wire):
    body = packed(exec_request("true"))
    for headers in ({}, {"grpc_encoding": "identity"}):
        assert wire.call(EXEC, body, **headers).status == 13


def test_what_is_not_gzip_is_refused(wire):
    good = gzip.compress(exec_request("true").SerializeToString())
    for payload in (
        b"",
        b"garbage",
        good[:-9],
        good[:10],
        good + b"trailing",
        good[:-4] + bytes(4),
    ):
        response = wire.call(EXEC, message(payload, compressed=1), grpc_encoding="gzip")
        assert response.refused, payload


def test_a_bomb_stops_at_the_message_limit():
    with gateway() as g, Connection(g.address, g.token) as connection:
        run(g.stub, "true")
        idle = resident(g.pid)
        bomb = gzip.compress(bytes(4 << 30 if os.environ.get("PROCGATE_SOAK") else 512 * MiB), 9)
        body = message(bomb, compressed=1)
        for _ in range(3):
            assert connection.call(GET, body, grpc_encoding="gzip", timeout=30).status == 8
        assert resident(g.pid) - idle < 64 * MiB


def test_answers_are_compressed_where_the_caller_asks(wire):
    asked = dict(grpc_accept_encoding="gzip", procgate_compress="gzip")
    body = message(exec_request("seq 1 50000").SerializeToString())
    response = wire.call(EXEC, body, **asked)
    assert response.headers["grpc-encoding"] == "gzip"
    assert output(response) == "".join(f"{i}\n" for i in range(1, 50001)).encode()
    assert len(response.data) < 200_000
    assert any(flag for flag, _ in messages(response))


def test_answers_are_never_compressed_where_the_caller_does_not_ask(wire):
    body = message(exec_request("seq 1 50000").SerializeToString())
    for asked in ({}, {"grpc_accept_encoding": "identity"}, {"grpc_accept_encoding": "gzip"}):
        response = wire.call(EXEC, body, **asked)
        assert response.headers.get("grpc-encoding", "identity") == "identity"
        assert not any(flag for flag, _ in messages(response))


def test_answers_are_not_compressed_for_one_who_does_not_accept_it(wire):
    body = message(exec_request("seq 1 50000").SerializeToString())
    response = wire.call(EXEC, body, grpc_accept_encoding="identity", procgate_compress="gzip")
    assert not any(flag for flag, _ in messages(response))


def test_a_replay_and_a_live_stream_can_be_compressed(shared, wire):
    id = start(shared.stub, "seq 1 50000").id
    whole = "".join(f"{i}\n" for i in range(1, 50001)).encode()
    body = message(pb.StreamOutputRequest(process_id=id).SerializeToString())
    asked = dict(grpc_accept_encoding="gzip", procgate_compress="gzip")
    for _ in range(2):
        response = wire.call(SERVICE + "StreamOutput", body, **asked)
        assert output(response) == whole
        assert len(response.data) < 200_000


def test_a_grpc_client_compresses_and_asks(shared):
    stub = shared.connect()
    data = b"compress me " * 200_000
    asked = [("procgate-compress", "gzip")]
    call = stub.Exec(
        exec_request("cat", stdin=data), metadata=asked, compression=grpc.Compression.Gzip
    )
    ran = collect(call)
    assert ran.stdout == data
    assert info(stub).version


def test_a_compressed_slow_reader_is_lossless(shared):
    events = begin(shared.connect(), "seq 1 1000000", metadata=[("procgate-compress", "gzip")])
    ran = collect(events)
    assert ran.stdout == "".join(f"{i}\n" for i in range(1, 1000001)).encode()


def test_a_compressed_message_beyond_the_limit_is_resource_exhausted():
    with gateway("--max-message-bytes", "64KiB") as g, Connection(g.address, g.token) as connection:
        fits, too_large = (exec_request("wc -c", stdin=bytes(size)) for size in (60_000, 70_000))
        response = connection.call(EXEC, packed(fits), grpc_encoding="gzip")
        assert output(response).strip() == b"60000"
        assert connection.call(EXEC, packed(too_large), grpc_encoding="gzip").status == 8
