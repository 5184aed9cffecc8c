"""gRPC's interoperability service served by grpcio, for the project's client to call."""

import time
from concurrent import futures
from contextlib import contextmanager

import grpc

from interop_service import (
    AS_IT_CAME,
    INITIAL,
    TRAILING,
    Empty,
    InputResponse,
    OutputResponse,
    SimpleResponse,
    methods,
    write,
    zeros,
)

CODES = {code.value[0]: code for code in grpc.StatusCode}
LEFT_OUT = {"UnimplementedCall"}


def echo(context):
    """Sends the head of the answer, and leaves the trailers for its end."""
    sent = context.invocation_metadata()
    context.set_trailing_metadata([(key, value) for key, value in sent if key == TRAILING])
    context.send_initial_metadata([(key, value) for key, value in sent if key == INITIAL])


def fail(message, context):
    if message.response_status.code:
        status = message.response_status
        context.abort(CODES[status.code], status.message)


def answers(wanted, context):
    for each in wanted:
        time.sleep(each.interval_us / 1e6)
        if not each.compressed.value:
            context.disable_next_message_compression()
        yield OutputResponse(payload=zeros(each.size))


class Service:
    compression = grpc.Compression.Gzip

    def check_compression(self, received, context):
        expected = received.message
        if not expected.HasField("expect_compressed"):
            return
        if expected.expect_compressed.value != received.compressed:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "compressed otherwise than expected")

    def EmptyCall(self, received, context):
        echo(context)
        return Empty()

    def UnaryCall(self, received, context):
        self.check_compression(received, context)
        request = received.message
        if request.response_compressed.value:
            context.set_compression(self.compression)
        echo(context)
        fail(request, context)
        return SimpleResponse(payload=zeros(request.response_size))

    CacheableUnaryCall = UnaryCall

    def StreamingOutputCall(self, received, context):
        context.set_compression(self.compression)
        echo(context)
        yield from answers(received.message.response_parameters, context)
        fail(received.message, context)

    def StreamingInputCall(self, requests, context):
        echo(context)
        total = 0
        for received in requests:
            self.check_compression(received, context)
            total += len(received.message.payload.body)
        return InputResponse(aggregated_payload_size=total)

    def FullDuplexCall(self, requests, context):
        context.set_compression(self.compression)
        echo(context)
        for received in requests:
            fail(received.message, context)
            yield from answers(received.message.response_parameters, context)

    def HalfDuplexCall(self, requests, context):
        context.set_compression(self.compression)
        echo(context)
        wanted = [each for got in requests for each in got.message.response_parameters]
        yield from answers(wanted, context)


class Careless(Service):
    """Ignores what is said of compression."""

    compression = grpc.Compression.NoCompression

    def check_compression(self, received, context):
        pass


def handlers(service):
    served = {}
    for name, method in methods("TestService").items():
        if name not in LEFT_OUT:
            make = getattr(grpc, f"{method.kind}_rpc_method_handler")
            served[name] = make(getattr(service, name), method.read_request, write)
    return grpc.method_handlers_generic_handler("grpc.testing.TestService", served)


@contextmanager
def serving(handler, certificate=None):
    """A server on a free port: its address. `certificate` is a pair of PEM files."""
    server = grpc.server(futures.ThreadPoolExecutor(8), [handler], options=AS_IT_CAME)
    if certificate:
        chain, key = (path.read_bytes() for path in certificate)
        credentials = grpc.ssl_server_credentials([(key, chain)])
        port = server.add_secure_port("127.0.0.1:0", credentials)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(grace=0).wait()
