"""Services: descriptors of their methods, stubs for clients, and the files for reflection."""

import names
from messages import Names, Writer
from model import walk


def services_file(file, tree):
    writer, foreign = Writer(), set()
    if file.namespace:
        writer.line(f"extension {file.namespace.swift_name} {{")
    for service in file.services:
        scope = Names(tree, service.module, service.scope)
        writer.comment(service.comment)
        writer.line(f"public enum {service.swift_name} {{")
        writer.line("/// As it stands in the paths of its methods.")
        writer.line(f'public static let fullName = "{service.full_name}"')
        for name, raw_name, request, response, kind, comment in service.methods:
            path = f"/{service.full_name}/{raw_name}"
            writer.line()
            writer.comment(comment)
            writer.line(
                f"public static let {names.escaped(name)} = MethodDescriptor<"
                f"{scope.type(request)}, {scope.type(response)}>("
                f'service: "{service.full_name}", name: "{raw_name}", path: "{path}", '
                f"kind: .{kind})")
        writer.line()
        writer.line("/// In the order of the proto file.")
        writer.line("public static let allMethods: "
                    "[(name: String, path: String, kind: StreamingKind)] = [")
        for _, raw_name, _, _, kind, _ in service.methods:
            writer.line(f'    ("{raw_name}", "/{service.full_name}/{raw_name}", .{kind}),')
        writer.line("]")
        writer.line("}")
        writer.line()
        foreign |= scope.foreign
    if file.namespace:
        writer.line("}")
    return writer.text(), foreign


def symbols(file):
    """Full names of all that a file declares."""
    for message in walk(file.messages):
        yield message.full_name
        for field in message.proto.field:
            yield f"{message.full_name}.{field.name}"
        for oneof in message.proto.oneof_decl:
            yield f"{message.full_name}.{oneof.name}"
        for enum in message.proto.enum_type:
            yield from enum_symbols(enum, message.full_name + ".")
    prefix = file.proto.package + "." if file.proto.package else ""
    for enum in file.proto.enum_type:
        yield from enum_symbols(enum, prefix)
    for service in file.proto.service:
        yield prefix + service.name
        for method in service.method:
            yield f"{prefix}{service.name}.{method.name}"


def enum_symbols(enum, prefix):
    """An enum's values are beside it, not in it."""
    yield prefix + enum.name
    for value in enum.value:
        yield prefix + value.name


def string_list(strings):
    return "[" + ", ".join(f'"{each}"' for each in strings) + "]"


def descriptors_file(files):
    writer = Writer()
    writer.line("/// The proto files of this module.")
    writer.line("public enum FileDescriptors {")
    writer.line("/// Each after those that it imports.")
    writer.line("public static let all: [FileDescriptor] = [")
    for file in files:
        prefix = file.proto.package + "." if file.proto.package else ""
        services = [prefix + service.name for service in file.proto.service]
        c_name = names.c_identifier(file.proto.name)
        writer.line("    FileDescriptor(")
        writer.line(f'        name: "{file.proto.name}",')
        writer.line(f"        dependencies: {string_list(file.proto.dependency)},")
        writer.line(f"        services: {string_list(services)},")
        writer.line(f"        symbols: {string_list(symbols(file))},")
        writer.line("        bytes: [UInt8](UnsafeBufferPointer(")
        writer.line(f"            start: {c_name}(), count: {c_name}_size))),")
    writer.line("]")
    writer.line("}")
    return writer.text()
