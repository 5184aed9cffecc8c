"""gRPC's interoperability service as Python sees it: its messages and methods, read from proto/
when the tests start. Its package is grpc.testing, whose name grpcio has taken for itself, so there
are no generated modules."""

import gzip
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc

PROTO = Path(__file__).resolve().parents[2] / "proto"
# With this a message reaches Python as it came, and Python sees whether it was compressed.
AS_IT_CAME = (("grpc.per_message_decompression", 0),)
# No protobuf message begins so: 0x1f is a field of type 7, which there is not.
GZIP_BEGINS = b"\x1f\x8b"
INITIAL, TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"


def load():
    pool = descriptor_pool.DescriptorPool()
    with tempfile.TemporaryDirectory(prefix="procgate-stubs-") as folder:
        to = Path(folder) / "descriptors"
        words = ["protoc", f"-I{PROTO}", "--include_imports", f"--descriptor_set_out={to}"]
        if protoc.main([*words, "grpc/testing/test.proto"]) != 0:
            raise SystemExit("protoc could not read grpc/testing/test.proto")
        for file in descriptor_pb2.FileDescriptorSet.FromString(to.read_bytes()).file:
            pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL = load()


def message(name):
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"grpc.testing.{name}"))


Empty, Payload, BoolValue = message("Empty"), message("Payload"), message("BoolValue")
EchoStatus, ResponseParameters = message("EchoStatus"), message("ResponseParameters")
SimpleRequest, SimpleResponse = message("SimpleRequest"), message("SimpleResponse")
InputRequest = message("StreamingInputCallRequest")
InputResponse = message("StreamingInputCallResponse")
OutputRequest = message("StreamingOutputCallRequest")
OutputResponse = message("StreamingOutputCallResponse")


class Received(NamedTuple):
    message: Any
    compressed: bool


def read(kind, data):
    compressed = data[:2] == GZIP_BEGINS
    return Received(kind.FromString(gzip.decompress(data) if compressed else data), compressed)


def write(message):
    return message.SerializeToString()


class Method:
    """One method of a service: its path, its kind as grpcio names it, and its codecs."""

    def __init__(self, service, descriptor):
        ends = ("stream" if streams else "unary" for streams in
                (descriptor.client_streaming, descriptor.server_streaming))  # fmt: skip
        self.name, self.kind = descriptor.name, "_".join(ends)
        self.path = f"/{service.full_name}/{descriptor.name}"
        self.read_request = partial(read, message(descriptor.input_type.name))
        self.read_response = partial(read, message(descriptor.output_type.name))


def methods(service):
    found = POOL.FindServiceByName(f"grpc.testing.{service}")
    return {each.name: Method(found, each) for each in found.methods}


class Stub:
    """The service's methods on a channel; what they answer is Received."""

    def __init__(self, channel, service="TestService"):
        for method in methods(service).values():
            call = getattr(channel, method.kind)(
                method.path, request_serializer=write, response_deserializer=method.read_response
            )
            setattr(self, method.name, call)


def zeros(count):
    return Payload(body=bytes(count))


def parameters(*sizes):
    return [ResponseParameters(size=size) for size in sizes]
