"""gRPC over HTTP/2 on the wire: what is right, what is wrong, and that the gateway goes on."""

import os
import random
import socket
import struct
import urllib.parse

import grpc
import hpack
import hyperframe.frame as frames
import pytest
from google.rpc import status_pb2

from contract import EXITED, Code, MiB, Stub, exec_request, info, pb, refused, run, start, stop
from gateway import alive, gateway
from wire import PREFACE, SERVICE, Connection, grpc_headers, message, raw_frame

INFO = SERVICE + "GetGateway"
GET = SERVICE + "GetProcess"
EXEC = SERVICE + "Exec"


@pytest.fixture(autouse=True)
def goes_on(shared):
    """After each test the same gateway and supervisor serve others."""
    before = shared.pid, shared.supervisor
    yield
    assert run(shared.connect(), "echo fine").stdout == b"fine\n"
    assert (shared.pid, shared.supervisor) == before
    assert alive(shared.pid)


@pytest.fixture
def wire(shared):
    with Connection(shared.address, shared.token) as connection:
        yield connection


def events(data):
    """The messages of a response's body."""
    found = []
    while data:
        compressed, length = struct.unpack(">BI", data[:5])
        assert compressed == 0
        found.append(pb.ProcessEvent.FromString(data[5 : 5 + length]))
        data = data[5 + length :]
    return found


def exec_body(command):
    return message(pb.ExecRequest(process=pb.ProcessSpec(command=command)).SerializeToString())


# What is right


def test_a_unary_answer_has_headers_one_message_and_trailers(wire):
    response = wire.call(INFO)
    assert response.http == 200
    assert response.headers["content-type"].startswith("application/grpc")
    assert response.status == 0
    assert "grpc-status" not in response.headers
    flag, length = struct.unpack(">BI", response.data[:5])
    assert (flag, length) == (0, len(response.data) - 5)
    assert pb.GetGatewayResponse.FromString(response.data[5:]).version


def test_a_stream_is_its_messages_one_after_the_other(wire):
    response = wire.call(EXEC, exec_body("echo a; echo b >&2"))
    assert response.status == 0
    kinds = [event.WhichOneof("event") for event in events(response.data)]
    assert kinds[0] == "started" and kinds[-1] == "exited"


def test_an_error_has_its_status_in_trailers_and_details(wire):
    body = message(pb.GetProcessRequest(process_id="none").SerializeToString())
    response = wire.call(GET, body)
    assert response.http == 200
    assert response.headers["content-type"].startswith("application/grpc")
    assert response.status == 5
    assert status_pb2.Status.FromString(response.details()).code == 5
    assert response.data == b""


def test_the_content_types_of_grpc_are_taken(wire):
    for kind in ("application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"):
        assert wire.call(INFO, content_type=kind).status == 0, kind


def test_another_content_type_is_415(wire):
    for kind in (
        "application/json",
        "text/plain",
        "application/grpcx",
        "application/grpc-web",
        "",
        None,
    ):
        response = wire.call(INFO, content_type=kind)
        assert response.http == 415, kind


def test_a_get_is_405(wire):
    for method in ("GET", "PUT", "DELETE", "OPTIONS"):
        id = wire.open(INFO, end=True, _method=method)
        assert wire.response(id).http == 405, method


def test_the_answer_to_a_head_has_no_body(wire):
    response = wire.response(wire.open(INFO, end=True, _method="HEAD"))
    assert response.http == 405
    assert response.data == b""
    health = wire.response(wire.open("/healthz", end=True, _method="HEAD"))
    assert (health.http, health.headers["content-length"], health.data) == (200, "3", b"")


def test_a_method_that_is_not_allowed_is_told_which_are(wire):
    for path, allowed in ((INFO, "POST"), ("/healthz", "GET, HEAD")):
        response = wire.response(wire.open(path, end=True, _method="DELETE"))
        assert (response.http, response.headers["allow"]) == (405, allowed)


def test_the_health_of_http_takes_a_query(wire):
    response = wire.response(wire.open("/healthz?full=1", end=True, _method="GET"))
    assert (response.http, response.data) == (200, b"ok\n")


def test_a_timeout_of_nothing_has_passed(wire):
    assert wire.call(INFO, grpc_timeout="0S").status == 4


def test_an_unknown_path_is_404_or_unimplemented(wire):
    for path in (
        "/",
        "/nothing",
        SERVICE,
        SERVICE + "Nothing",
        "/other.Service/Exec",
        INFO + "/",
        INFO + "?x",
    ):
        response = wire.call(path)
        assert response.http == 404 or response.status == 12, path


def test_an_unknown_method_of_the_service_is_unimplemented(wire):
    response = wire.call(SERVICE + "NoSuchMethod")
    assert (response.http, response.status) == (200, 12)


def test_messages_are_percent_encoded(shared, wire):
    odd = "/no/such/ünï☃%41 \n\r\x7f~directory"
    request = pb.ExecRequest(process=pb.ProcessSpec(command="true", cwd=odd))
    response = wire.call(EXEC, message(request.SerializeToString()))
    assert response.status == 3
    assert all(" " <= character <= "~" for character in response.message)
    told = status_pb2.Status.FromString(response.details()).message
    assert urllib.parse.unquote(response.message, errors="strict") == told


def test_a_message_may_come_one_byte_at_a_time(wire):
    id = wire.open(EXEC)
    wire.body(id, exec_body("echo tiny"), piece=1)
    response = wire.response(id)
    assert response.status == 0
    assert events(response.data)[-1].exited.process.status == EXITED


def test_data_frames_may_be_padded_and_empty(wire):
    id = wire.open(EXEC)
    body = exec_body("echo padded")
    for i in range(0, len(body), 7):
        wire.h2.send_data(id, body[i : i + 7], pad_length=200)
        wire.h2.send_data(id, b"")
    wire.h2.send_data(id, b"", end_stream=True)
    wire.flush()
    assert wire.response(id).status == 0


def test_headers_may_be_cut_into_continuations(shared, wire):
    block = hpack.Encoder().encode(grpc_headers(INFO, shared.token))
    third = len(block) // 3
    id = wire.adopt()
    wire.frame(
        frames.HeadersFrame(id, block[:third]),
        frames.ContinuationFrame(id, block[third : 2 * third]),
        frames.ContinuationFrame(id, block[2 * third :], flags=["END_HEADERS"]),
        frames.DataFrame(id, message(), flags=["END_STREAM"]),
    )
    assert wire.response(id).status == 0


def test_grpc_timeout_is_taken_in_every_unit(shared, wire):
    process = start(shared.stub, "sleep 1000")
    body = message(pb.WaitRequest(process_id=process.id).SerializeToString())
    for value in ("100m", "100000u", "99999999n"):
        response = wire.call(SERVICE + "Wait", body, grpc_timeout=value)
        assert response.status == 4, value
    for value in ("1S", "1M", "1H", "99999999H", "99999999S"):
        assert wire.call(INFO, grpc_timeout=value).status == 0, value
    stop(shared.stub, process.id, grace_ms=0)


def test_a_timeout_that_is_none_is_refused(wire):
    for value in ("", "m", "abc", "-1S", "1", "1x", "1.5S", "123456789S", "1 S", "0x1S"):
        assert wire.call(INFO, grpc_timeout=value).refused, value


def test_a_timeout_of_zero_is_past_at_once(shared, wire):
    process = start(shared.stub, "sleep 1000")
    body = message(pb.WaitRequest(process_id=process.id).SerializeToString())
    assert wire.call(SERVICE + "Wait", body, grpc_timeout="0n").status == 4
    stop(shared.stub, process.id, grace_ms=0)


def test_many_calls_share_a_connection(wire):
    ids = [wire.request(EXEC, exec_body(f"echo {i}")) for i in range(60)]
    for i, id in enumerate(ids):
        response = wire.response(id)
        output = b"".join(event.output.data for event in events(response.data))
        assert output == b"%d\n" % i


def test_a_request_that_is_reset_does_not_disturb_the_others(wire):
    first = wire.request(EXEC, exec_body("sleep 0.3; echo whole"))
    second = wire.open(EXEC)
    wire.body(second, exec_body("echo x")[:7], end=False)
    wire.h2.reset_stream(second, 8)
    wire.flush()
    response = wire.response(first)
    assert b"whole" in response.data and response.status == 0


def test_healthz_answers_a_plain_get(wire):
    id = wire.open(
        "/healthz", end=True, _method="GET", content_type=None, te=None, authorization=None
    )
    response = wire.response(id)
    assert response.http == 200
    assert 0 < len(response.data) < 1000


# What is wrong


def test_an_empty_body_is_refused(wire):
    for path in (INFO, GET, EXEC, SERVICE + "Wait"):
        assert wire.response(wire.open(path, end=True)).refused, path
        assert wire.call(path, b"").refused, path


def test_a_message_longer_than_its_length_is_refused(wire):
    good = pb.GetProcessRequest(process_id="some-process").SerializeToString()
    for length in (0, 1, len(good) - 1):
        assert wire.call(GET, message(good, length=length)).refused


def test_a_length_longer_than_the_message_is_refused(wire):
    for length in (1, 100, 65536, MiB):
        assert wire.call(GET, message(b"", length=length)).refused
        assert wire.call(GET, message(b"\n", length=length + 1)).refused


def test_a_cut_prefix_is_refused(wire):
    for size in range(1, 5):
        assert wire.call(INFO, message()[:size]).refused


def test_a_length_beyond_the_limit_is_resource_exhausted(shared, wire):
    for length in (16 * MiB + 1, 2**31 - 1, 2**31, 2**32 - 1):
        id = wire.open(GET)
        wire.body(id, message(b"x", length=length), end=False)
        response = wire.response(id)
        assert response.status == 8 or response.closed, length


def test_two_messages_to_a_unary_method_are_refused(wire):
    assert wire.call(INFO, message() + message()).refused
    assert wire.call(EXEC, exec_body("true") * 2).refused


def test_malformed_protobuf_is_refused(wire):
    for payload in (
        b"\xff",
        b"\x0a\xff",
        b"\x0a\x05ab",
        b"\x08" * 50,
        b"\x0f\x01",
        os.urandom(1000) + b"\xff",
    ):
        assert wire.call(GET, message(payload)).refused


def test_deeply_nested_protobuf_is_answered(wire):
    payload = b""
    for _ in range(5000):
        if len(payload) > 60_000:
            break
        length, rest = len(payload), b""
        while True:
            rest += bytes([length & 127 | (128 if length > 127 else 0)])
            length >>= 7
            if not length:
                break
        payload = b"\x0a" + rest + payload
    response = wire.call(EXEC, message(payload))
    assert response.status is not None or response.closed


def test_text_that_is_not_utf8_is_refused(wire):
    assert wire.call(GET, message(b"\x0a\x02\xc3\x28")).refused


def test_a_compressed_flag_without_an_encoding_is_refused(wire):
    for flag in (1, 2, 255):
        response = wire.call(INFO, message(b"", compressed=flag))
        assert response.refused
        assert response.status in (None, 13, 12, 3)


def test_garbage_is_cut_off(shared):
    for data in (
        os.urandom(4000),
        b"\0" * 4000,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(500),
        PREFACE[:-1] + b"X" + bytes(100),
        PREFACE + os.urandom(4000),
        PREFACE + b"\xff\xff\xff" + os.urandom(4000),
        PREFACE + struct.pack(">I", 100)[1:] + b"\x04\x00" + bytes(4) + bytes(100),
    ):
        with socket.create_connection(("127.0.0.1", shared.port), 10) as plain:
            try:
                plain.sendall(data)
                while plain.recv(65536):
                    pass
            except ConnectionError:
                pass


def test_a_half_open_connection_harms_nobody(shared):
    """The caller says that it sends no more; answered or closed, then gone."""
    with Connection(shared.address, shared.token) as connection:
        id = connection.request(EXEC, exec_body("echo x"))
        connection.socket.shutdown(socket.SHUT_WR)
        response = connection.responses[id]
        connection.until(lambda: response.ended or connection.closed)
    halves = []
    for data in (b"", PREFACE[:10], PREFACE, PREFACE + bytes(4)):
        plain = socket.create_connection(("127.0.0.1", shared.port), 10)
        plain.sendall(data)
        plain.shutdown(socket.SHUT_WR)
        halves.append(plain)
    for plain in halves:
        try:
            while plain.recv(65536):
                pass
        except ConnectionError:
            pass
        plain.close()


def test_connections_that_say_nothing_harm_nobody(shared):
    silent = [socket.create_connection(("127.0.0.1", shared.port), 10) for _ in range(100)]
    assert info(shared.connect()).version
    for plain in silent:
        plain.close()


def test_frames_that_break_http2_end_their_connection_alone(shared):
    headers, end_headers = hpack.Encoder().encode(grpc_headers(INFO)), 4
    bad = {
        "DATA on an idle stream": raw_frame(0, b"x", 1),
        "DATA on stream 0": raw_frame(0, b"x", 0),
        "HEADERS on stream 0": raw_frame(1, headers, 0, end_headers),
        "HEADERS on an even stream": raw_frame(1, headers, 2, end_headers),
        "HEADERS that are no HPACK": raw_frame(1, b"\xff" * 6, 1, end_headers),
        "RST_STREAM on stream 0": raw_frame(3, bytes(4), 0),
        "RST_STREAM on an idle stream": raw_frame(3, bytes(4), 1),
        "SETTINGS of a wrong size": raw_frame(4, bytes(5), 0),
        "SETTINGS on a stream": raw_frame(4, b"", 1),
        "PUSH_PROMISE by a client": raw_frame(5, struct.pack(">I", 2) + headers, 1, end_headers),
        "PING of a wrong size": raw_frame(6, bytes(7), 0),
        "WINDOW_UPDATE by 0": raw_frame(8, bytes(4), 0),
        "WINDOW_UPDATE past the largest": raw_frame(8, struct.pack(">I", 2**31 - 1), 0),
        "CONTINUATION of nothing": raw_frame(9, headers, 1, end_headers),
        "PRIORITY of no stream": raw_frame(2, struct.pack(">IB", 3, 16), 0),
        "PRIORITY of a stream that depends on itself": raw_frame(2, struct.pack(">IB", 7, 16), 7),
        "a frame beyond the largest": raw_frame(0, bytes(20_000), 1),
    }
    for name, frame in bad.items():
        with Connection(shared.address, shared.token) as connection:
            connection.send(frame)
            assert connection.ends(), name


@pytest.mark.parametrize("late", ["DATA", "HEADERS"])
@pytest.mark.parametrize("end", ["answered", "reset", "reset in one write"])
def test_nothing_follows_a_streams_last_frame(shared, late, end):
    """h2spec 5.1/8, 9, 11 and 12: STREAM_CLOSED."""
    with Connection(shared.address, shared.token) as connection:
        frame = frames.DataFrame(1, b"late")
        if late == "HEADERS":
            block = hpack.Encoder().encode(grpc_headers(SERVICE + "GetGateway", shared.token))
            frame = frames.HeadersFrame(1, block, flags=["END_HEADERS", "END_STREAM"])
        if end == "answered":
            assert connection.call(SERVICE + "GetGateway").status == 0
            connection.frame(frame)
        else:
            connection.open(SERVICE + "GetGateway")
            reset = frames.RstStreamFrame(1, 8)
            if end == "reset":
                connection.frame(reset)
                connection.frame(frame)
            else:
                connection.frame(reset, frame)
        assert connection.ends()
        assert connection.goaway == 5


@pytest.mark.parametrize("authority", ["{path}", "%2Frun%2Fapi.sock", "localhost"])
def test_over_a_unix_socket_the_authority_may_be_its_path(tmp_path, authority):
    path = str(tmp_path / "api.sock")
    authority = authority.format(path=path)
    with gateway("--listen", f"unix:{path}") as g:
        with Connection(f"unix:{path}") as connection:
            assert connection.call(SERVICE + "GetGateway", _authority=authority).status == 0
            # What else makes a request malformed still does.
            for wrong in ({"_authority": "a b"}, {"_path": "x"}, {"connection": "close"}):
                assert connection.call(SERVICE + "GetGateway", **wrong).reset == 1
            assert connection.call(SERVICE + "GetGateway", _authority=authority).status == 0
        channel = grpc.insecure_channel(
            f"unix:{path}", options=[("grpc.default_authority", authority)]
        )
        with channel:
            assert info(Stub(channel, [], deadline=10)).version
        g.has_not_crashed()


def test_over_tcp_an_authority_is_no_path(shared):
    with Connection(shared.address, shared.token) as connection:
        assert connection.call(SERVICE + "GetGateway", _authority="/run/api.sock").reset == 1


def test_a_random_storm_of_frames_harms_nobody(shared):
    source = random.Random(7)
    for _ in range(150):
        with Connection(shared.address, shared.token) as connection:
            for _ in range(source.randrange(1, 12)):
                payload = source.randbytes(source.randrange(0, 40))
                kind, flags = source.randrange(0, 12), source.randrange(256)
                connection.send(raw_frame(kind, payload, source.randrange(0, 9), flags))


def test_a_request_message_beyond_max_message_bytes_is_resource_exhausted():
    with gateway("--max-message-bytes", "64KiB") as g:
        assert info(g.stub).max_message_bytes == 65536
        assert run(g.stub, "wc -c", stdin=bytes(60_000)).stdout.strip() == b"60000"
        with refused(Code.RESOURCE_EXHAUSTED):
            list(g.stub.Exec(exec_request("wc -c", stdin=bytes(70_000))))


def test_a_message_of_just_under_sixteen_megabytes_is_taken(stub):
    assert run(stub, "wc -c", stdin=bytes(16 * MiB - 1000)).stdout.strip() == b"%d" % (
        16 * MiB - 1000
    )
