"""What is generated from which proto file, and where it goes."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Module:
    """A Swift module that receives generated code."""

    name: str
    swift_dir: str
    # Where protoc-c's structs are compiled: a C target with its `include` folder.
    c_target: str
    c_dir: str
    protos: tuple
    # The enum in which a package's types are nested. A package that is not named here has its
    # types at the top level of the module.
    namespaces: dict = field(default_factory=dict)
    # Where the client's stubs go, if there are any.
    stubs_dir: str = ""


PROTO_PATHS = ["proto", "Tests/ProtobufTests/Protos"]

MODULES = [
    Module(
        name="ProcgateV1",
        swift_dir="Sources/ProcgateV1/Generated",
        c_target="CProtos",
        c_dir="Sources/CProtos",
        protos=("procgate/v1/process.proto",),
        stubs_dir="Sources/ProcgateClient/Generated",
    ),
    Module(
        name="ProcgateInternal",
        swift_dir="Sources/ProcgateInternal/Generated",
        c_target="CProtos",
        c_dir="Sources/CProtos",
        protos=("procgate/internal/supervisor.proto",),
    ),
    Module(
        name="GRPCProtos",
        swift_dir="Sources/GRPCProtos/Generated",
        c_target="CProtos",
        c_dir="Sources/CProtos",
        protos=(
            "google/protobuf/any.proto",
            "google/protobuf/duration.proto",
            "google/rpc/status.proto",
            "google/rpc/error_details.proto",
            "grpc/health/v1/health.proto",
            "grpc/reflection/v1/reflection.proto",
            "grpc/reflection/v1alpha/reflection.proto",
        ),
        namespaces={
            # The two declare the same names.
            "grpc.reflection.v1": "GRPCReflection",
            "grpc.reflection.v1alpha": "GRPCReflectionAlpha",
        },
    ),
    Module(
        name="GRPCTesting",
        swift_dir="Sources/GRPCTesting/Generated",
        c_target="CGRPCTesting",
        c_dir="Sources/CGRPCTesting",
        protos=(
            "grpc/testing/empty.proto",
            "grpc/testing/messages.proto",
            "grpc/testing/test.proto",
        ),
    ),
    Module(
        name="ProtobufTests",
        swift_dir="Tests/ProtobufTests/Generated",
        c_target="CTestProtos",
        c_dir="Tests/CTestProtos",
        protos=("procgate/test/features.proto",),
    ),
]


def swift_dirs():
    """Every folder of generated Swift."""
    for module in MODULES:
        yield module.swift_dir
        if module.stubs_dir:
            yield module.stubs_dir


def c_dirs():
    """Every folder of generated C."""
    for module in MODULES:
        yield module.c_dir


if __name__ == "__main__":
    # Prints the folders of generated Swift, or `all` of generated code.
    import sys

    everything = sys.argv[1] == "all"
    for each in dict.fromkeys([*swift_dirs(), *(c_dirs() if everything else ())]):
        print(each)
