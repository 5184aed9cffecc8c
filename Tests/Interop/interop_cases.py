"""gRPC's interoperability test cases, played by grpcio."""

import os
import queue

import grpc
import pytest

from interop_service import (
    AS_IT_CAME,
    INITIAL,
    TRAILING,
    BoolValue,
    EchoStatus,
    Empty,
    InputRequest,
    OutputRequest,
    ResponseParameters,
    SimpleRequest,
    Stub,
    parameters,
    zeros,
)

Code = grpc.StatusCode
Gzip = grpc.Compression.Gzip
LARGE_REQUEST, LARGE_RESPONSE = 271828, 314159
REQUEST_SIZES, RESPONSE_SIZES = (27182, 8, 1828, 45904), (31415, 9, 2653, 58979)
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n"
SOAK = 50
LIMIT_SECONDS = 20
CASES = {}


class Player:
    """Opens channels to one server."""

    def __init__(self, address, authority=None, compression=None):
        self.address, self.compression = address, compression
        self.credentials = None
        if authority:
            self.credentials = grpc.ssl_channel_credentials(authority.read_bytes())

    def channel(self, options=(), compression=None):
        # A pool of its own: grpcio shares the connections of channels that are alike.
        options = (("grpc.use_local_subchannel_pool", 1), *options)
        if self.credentials:
            return grpc.secure_channel(self.address, self.credentials, options, compression)
        return grpc.insecure_channel(self.address, options, compression)

    def open(self):
        return self.channel(compression=self.compression)

    def open_as_it_came(self):
        """For the cases that see, or say themselves, what is compressed."""
        return self.channel(AS_IT_CAME)


def case(body):
    def play(player):
        with player.open() as channel:
            body(Stub(channel))

    CASES[body.__name__] = play
    return body


def compressed_case(body):
    def play(player):
        with player.open_as_it_came() as channel:
            body(Stub(channel))

    CASES[body.__name__] = play
    return body


class Outgoing:
    """Requests that are sent as they are put, until None."""

    def __init__(self, *requests):
        self.waiting = queue.SimpleQueue()
        for request in requests:
            self.put(request)

    def put(self, request):
        self.waiting.put(request)

    def __iter__(self):
        return iter(self.waiting.get, None)


def large(**fields):
    return SimpleRequest(response_size=LARGE_RESPONSE, payload=zeros(LARGE_REQUEST), **fields)


def check_zeros(received, size):
    assert received.message.payload.body == bytes(size)


def ends_with(code, body, *words, **options):
    options.setdefault("timeout", LIMIT_SECONDS)
    with pytest.raises(grpc.RpcError) as caught:
        answer = body(*words, **options)
        if hasattr(answer, "__next__"):
            list(answer)
    assert caught.value.code() == code, caught.value.details()
    return caught.value.details()


@case
def empty_unary(stub):
    assert stub.EmptyCall(Empty(), timeout=LIMIT_SECONDS).message == Empty()


@case
def large_unary(stub):
    check_zeros(stub.UnaryCall(large(), timeout=LIMIT_SECONDS), LARGE_RESPONSE)


@compressed_case
def client_compressed_unary(stub):
    request = large(expect_compressed=BoolValue(value=True))
    ends_with(Code.INVALID_ARGUMENT, stub.UnaryCall, request)
    answer = stub.UnaryCall(request, compression=Gzip, timeout=LIMIT_SECONDS)
    check_zeros(answer, LARGE_RESPONSE)
    request.expect_compressed.value = False
    check_zeros(stub.UnaryCall(request, timeout=LIMIT_SECONDS), LARGE_RESPONSE)


@compressed_case
def server_compressed_unary(stub):
    for compressed in (True, False):
        request = large(response_compressed=BoolValue(value=compressed))
        answer = stub.UnaryCall(request, timeout=LIMIT_SECONDS)
        check_zeros(answer, LARGE_RESPONSE)
        assert answer.compressed == compressed


@case
def client_streaming(stub):
    requests = (InputRequest(payload=zeros(size)) for size in REQUEST_SIZES)
    answer = stub.StreamingInputCall(requests, timeout=LIMIT_SECONDS)
    assert answer.message.aggregated_payload_size == 74922


@compressed_case
def client_compressed_streaming(stub):
    def compressible(size, expected):
        return InputRequest(payload=zeros(size), expect_compressed=BoolValue(value=expected))

    def incompressible(size, expected):
        # grpcio leaves a message as it is, where compression does not make it smaller.
        request = compressible(0, expected)
        request.payload.body = os.urandom(size)
        return request

    options = {"compression": Gzip, "timeout": LIMIT_SECONDS}
    probe = iter([incompressible(27182, True)])
    ends_with(Code.INVALID_ARGUMENT, stub.StreamingInputCall, probe, **options)
    requests = iter([compressible(27182, True), incompressible(45904, False)])
    answer = stub.StreamingInputCall(requests, **options)
    assert answer.message.aggregated_payload_size == 73086


@case
def server_streaming(stub):
    request = OutputRequest(response_parameters=parameters(*RESPONSE_SIZES))
    answers = list(stub.StreamingOutputCall(request, timeout=LIMIT_SECONDS))
    assert len(answers) == len(RESPONSE_SIZES)
    for answer, size in zip(answers, RESPONSE_SIZES, strict=True):
        check_zeros(answer, size)


@compressed_case
def server_compressed_streaming(stub):
    wanted = ((31415, True), (92653, False))
    request = OutputRequest(
        response_parameters=[
            ResponseParameters(size=size, compressed=BoolValue(value=compressed))
            for size, compressed in wanted
        ]
    )
    answers = list(stub.StreamingOutputCall(request, timeout=LIMIT_SECONDS))
    assert [(len(got.message.payload.body), got.compressed) for got in answers] == list(wanted)


def exchange(request_size, response_size):
    return OutputRequest(response_parameters=parameters(response_size), payload=zeros(request_size))


@case
def ping_pong(stub):
    outgoing = Outgoing()
    answers = stub.FullDuplexCall(iter(outgoing), timeout=LIMIT_SECONDS)
    for request_size, response_size in zip(REQUEST_SIZES, RESPONSE_SIZES, strict=True):
        outgoing.put(exchange(request_size, response_size))
        check_zeros(next(answers), response_size)
    outgoing.put(None)
    assert list(answers) == []


@case
def empty_stream(stub):
    assert list(stub.FullDuplexCall(iter([]), timeout=LIMIT_SECONDS)) == []


@case
def custom_metadata(stub):
    initial, trailing = "test_initial_metadata_value", b"\xab\xab\xab"
    options = {"metadata": ((INITIAL, initial), (TRAILING, trailing)), "timeout": LIMIT_SECONDS}
    answer, call = stub.UnaryCall.with_call(large(), **options)
    check_zeros(answer, LARGE_RESPONSE)
    assert dict(call.initial_metadata())[INITIAL] == initial
    assert dict(call.trailing_metadata())[TRAILING] == trailing
    requests = iter([exchange(LARGE_REQUEST, LARGE_RESPONSE)])
    answers = stub.FullDuplexCall(requests, **options)
    assert dict(answers.initial_metadata())[INITIAL] == initial
    (answer,) = answers
    check_zeros(answer, LARGE_RESPONSE)
    assert dict(answers.trailing_metadata())[TRAILING] == trailing


@case
def status_code_and_message(stub):
    wanted = EchoStatus(code=Code.UNKNOWN.value[0], message="test status message")
    details = ends_with(Code.UNKNOWN, stub.UnaryCall, SimpleRequest(response_status=wanted))
    assert details == wanted.message
    requests = iter([OutputRequest(response_status=wanted)])
    assert ends_with(Code.UNKNOWN, stub.FullDuplexCall, requests) == wanted.message


@case
def special_status_message(stub):
    wanted = EchoStatus(code=Code.UNKNOWN.value[0], message=SPECIAL)
    details = ends_with(Code.UNKNOWN, stub.UnaryCall, SimpleRequest(response_status=wanted))
    assert details == SPECIAL


@case
def unimplemented_method(stub):
    ends_with(Code.UNIMPLEMENTED, stub.UnimplementedCall, Empty())


def unimplemented_service(player):
    with player.open() as channel:
        stub = Stub(channel, "UnimplementedService")
        ends_with(Code.UNIMPLEMENTED, stub.UnimplementedCall, Empty())


@case
def cancel_after_begin(stub):
    outgoing = Outgoing()
    call = stub.StreamingInputCall.future(iter(outgoing), timeout=LIMIT_SECONDS)
    call.cancel()
    outgoing.put(None)
    assert call.code() == Code.CANCELLED


@case
def cancel_after_first_response(stub):
    outgoing = Outgoing(exchange(27182, 31415))
    answers = stub.FullDuplexCall(iter(outgoing), timeout=LIMIT_SECONDS)
    check_zeros(next(answers), 31415)
    answers.cancel()
    outgoing.put(None)
    assert answers.code() == Code.CANCELLED


@case
def timeout_on_sleeping_server(stub):
    # The channel connects first: the deadline is to pass in the server, not on the way.
    stub.EmptyCall(Empty(), timeout=LIMIT_SECONDS)
    outgoing = Outgoing(OutputRequest(payload=zeros(27182)))
    ends_with(Code.DEADLINE_EXCEEDED, stub.FullDuplexCall, iter(outgoing), timeout=0.001)
    outgoing.put(None)


@case
def rpc_soak(stub):
    for _ in range(SOAK):
        large_unary(stub)


def channel_soak(player):
    for _ in range(SOAK):
        CASES["large_unary"](player)


CASES |= {"unimplemented_service": unimplemented_service, "channel_soak": channel_soak}
