"""grpc.reflection.v1 and v1alpha."""

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_reflection.v1alpha import reflection_pb2

from contract import Code, refused

pytestmark = pytest.mark.issue3
OURS = "procgate.v1.ProcessService"


def reflect(shared, version, *requests, token=True):
    """Both versions have the same messages under another service name."""
    method = shared.channel().stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    metadata = shared.metadata if token else ()
    asked = [reflection_pb2.ServerReflectionRequest(**fields) for fields in requests]
    return list(method(iter(asked), metadata=metadata, timeout=10))


versions = pytest.mark.parametrize("version", ["v1", "v1alpha"])


@versions
def test_the_services_are_listed(shared, version):
    (answer,) = reflect(shared, version, dict(list_services=""))
    names = {service.name for service in answer.list_services_response.service}
    assert {OURS, "grpc.health.v1.Health", f"grpc.reflection.{version}.ServerReflection"} <= names


@versions
def test_a_token_is_asked(shared, version):
    with refused(Code.UNAUTHENTICATED):
        reflect(shared, version, dict(list_services=""), token=False)


@versions
def test_a_symbol_is_described_by_its_file(shared, version):
    for symbol in (
        OURS,
        OURS + ".Exec",
        "procgate.v1.ProcessSpec",
        "procgate.v1.ProcessStatus",
        "procgate.v1.Process.exit_code",
    ):
        (answer,) = reflect(shared, version, dict(file_containing_symbol=symbol))
        files = [
            descriptor_pb2.FileDescriptorProto.FromString(data)
            for data in answer.file_descriptor_response.file_descriptor_proto
        ]
        assert "procgate/v1/process.proto" in [file.name for file in files], symbol


@versions
def test_a_file_is_found_by_its_name(shared, version):
    (answer,) = reflect(shared, version, dict(file_by_filename="procgate/v1/process.proto"))
    assert answer.file_descriptor_response.file_descriptor_proto
    (answer,) = reflect(shared, version, dict(file_by_filename="none.proto"))
    assert answer.error_response.error_code == Code.NOT_FOUND.value[0]


@versions
def test_what_is_unknown_is_not_found(shared, version):
    (answer,) = reflect(shared, version, dict(file_containing_symbol="no.such.Symbol"))
    assert answer.error_response.error_code == Code.NOT_FOUND.value[0]
    assert answer.original_request.file_containing_symbol == "no.such.Symbol"


@versions
def test_a_type_without_extensions_has_none(shared, version):
    (answer,) = reflect(
        shared, version, dict(all_extension_numbers_of_type="procgate.v1.ProcessSpec")
    )
    assert answer.WhichOneof("message_response") == "all_extension_numbers_response"
    numbers = answer.all_extension_numbers_response
    assert numbers.base_type_name == "procgate.v1.ProcessSpec"
    assert not numbers.extension_number
    for unknown in ("no.such.Type", OURS):
        (answer,) = reflect(shared, version, dict(all_extension_numbers_of_type=unknown))
        assert answer.error_response.error_code == Code.NOT_FOUND.value[0]


@versions
def test_many_questions_go_over_one_stream(shared, version):
    asked = [
        dict(file_containing_symbol=OURS),
        dict(list_services=""),
        dict(file_containing_symbol="x.Y"),
    ] * 5
    answers = reflect(shared, version, *asked)
    kinds = [answer.WhichOneof("message_response") for answer in answers]
    assert kinds == ["file_descriptor_response", "list_services_response", "error_response"] * 5


@versions
def test_a_call_by_name_works_from_the_descriptors_alone(shared, version):
    pool = descriptor_pool.DescriptorPool()
    (answer,) = reflect(shared, version, dict(file_containing_symbol=OURS))
    for data in answer.file_descriptor_response.file_descriptor_proto:
        pool.AddSerializedFile(data)
    method = pool.FindServiceByName(OURS).methods_by_name["GetGateway"]
    request = message_factory.GetMessageClass(method.input_type)
    response = message_factory.GetMessageClass(method.output_type)
    call = shared.channel().unary_unary(
        f"/{OURS}/GetGateway",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString,
    )
    assert call(request(), metadata=shared.metadata, timeout=10).max_running == 1024


@versions
def test_every_method_of_the_contract_is_described(shared, version):
    from contract import pb

    (answer,) = reflect(shared, version, dict(file_by_filename="procgate/v1/process.proto"))
    (data,) = answer.file_descriptor_response.file_descriptor_proto
    theirs = descriptor_pb2.FileDescriptorProto.FromString(data)
    ours = descriptor_pb2.FileDescriptorProto.FromString(pb.DESCRIPTOR.serialized_pb)
    assert [method.name for method in theirs.service[0].method] == [
        method.name for method in ours.service[0].method
    ]
    assert [message.name for message in theirs.message_type] == [
        message.name for message in ours.message_type
    ]
