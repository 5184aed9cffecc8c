"""The Swift side of decoding and encoding: from and to the structs of protoc-c."""

import names
from messages import Names, Writer
from model import SWIFT_SCALARS, Field, OneofNode, walk

FLOATS = (Field.TYPE_FLOAT, Field.TYPE_DOUBLE)


def read_value(field, source):
    """A Swift expression of one value of a field, from its place in a C struct."""
    if field.type == Field.TYPE_STRING:
        return f"try arena.string({source})"
    if field.type == Field.TYPE_BYTES:
        return f"arena.bytes({source})"
    if field.type == Field.TYPE_BOOL:
        return f"{source} != 0"
    if field.type in FLOATS:
        return f"{SWIFT_SCALARS[field.type]}(bitPattern: {source})"
    return source


def write_value(field, value):
    """A C expression of one value of a field."""
    if field.type in (Field.TYPE_STRING, Field.TYPE_BYTES):
        return f"arena.data({value})"
    if field.type == Field.TYPE_BOOL:
        return f"{value} ? 1 : 0"
    if field.type in FLOATS:
        return f"{value}.bitPattern"
    if field.type == Field.TYPE_ENUM:
        return f"{value}.rawValue"
    if field.is_message:
        return f"arena.message({value})"
    return value


def read_single(field, source, scope):
    if field.type == Field.TYPE_ENUM:
        return f"{scope.type(field.target)}(rawValue: {source})"
    if field.is_message:
        return f"try arena.message({source})"
    return read_value(field, source)


def read_required(field, source, scope):
    """As read_single, where a message that is missing is an empty one."""
    value = read_single(field, source, scope)
    return f"{value} ?? {scope.type(field.target)}()" if field.is_message else value


def list_reader(field):
    if field.type == Field.TYPE_STRING:
        return "try arena.strings"
    if field.is_message:
        return "try arena.messages"
    return {Field.TYPE_BYTES: "arena.byteStrings", Field.TYPE_BOOL: "arena.bools",
            Field.TYPE_ENUM: "arena.enums"}.get(field.type, "arena.numbers")


def list_writer(field):
    if field.is_message or field.type in (Field.TYPE_STRING, Field.TYPE_BYTES):
        return "arena.list"
    return {Field.TYPE_BOOL: "arena.bools", Field.TYPE_ENUM: "arena.enums"}.get(
        field.type, "arena.numbers")


class Coding:
    """The extension of one message."""

    def __init__(self, writer, message, tree):
        self.writer, self.message = writer, message
        self.scope = Names(tree, message.module, (message,))
        # Within the extension of a nested type, its siblings are named from the top.
        self.scope.own = {}
        for outer in message.scope:
            self.scope.hidden |= outer.nested_names - {message.path[0]}
        self.c_type = names.c_type(message.full_name)
        if "__" not in self.c_type:
            # Of a file without a package: the Swift type has the same name.
            self.c_type = f"{message.module.c_target}.{self.c_type}"

    def write(self):
        writer, message = self.writer, self.message
        writer.line(f"extension {'.'.join(message.path)}: CMessage {{")
        writer.line(f'public static var fullName: String {{ "{message.full_name}" }}')
        writer.line()
        writer.line("package static var layout: UnsafePointer<ProtobufCMessageDescriptor> {")
        writer.line(f"{names.c_lower(message.full_name)}__layout()")
        writer.line("}")
        if message.unbounded:
            writer.line()
            writer.line("package static var isUnboundedlyDeep: Bool { true }")
        writer.line()
        writer.line("public init(decoding bytes: UnsafeRawBufferPointer, memoryLimit: Int) "
                    "throws(ProtobufError) {")
        writer.line("self = try Self.decode(bytes, memoryLimit: memoryLimit)")
        writer.line("}")
        writer.line()
        writer.line("public func withEncoder(_ body: (borrowing MessageEncoder) -> Void) {")
        writer.line("encode(body)")
        writer.line("}")
        writer.line()
        writer.line(f"package init(reading fields: UnsafePointer<{self.c_type}>, in arena: Arena) "
                    "throws(ProtobufError) {")
        for member in message.members:
            self.read_oneof(member) if isinstance(member, OneofNode) else self.read(member)
        writer.line("}")
        writer.line()
        writer.line(f"package func write(to fields: UnsafeMutablePointer<{self.c_type}>, "
                    "in arena: Arena) {")
        for member in message.members:
            self.write_oneof(member) if isinstance(member, OneofNode) else self.write_field(member)
        writer.line("}")
        writer.line("}")
        writer.line()

    def read(self, field):
        place, target = f"fields.pointee.{field.c_name}", f"self.{names.escaped(field.name)}"
        count = f"fields.pointee.n_{field.c_name}"
        if field.is_map:
            entry = names.c_type(field.entry_name)
            self.writer.line(
                f"{target} = try arena.map({place}, {count}) {{ "
                f"(entry: UnsafeMutablePointer<{entry}>) throws(ProtobufError) in")
            key = read_required(field.key, "entry.pointee.key", self.scope)
            value = read_required(field.value, "entry.pointee.value", self.scope)
            self.writer.line(f"({key}, {value})")
            self.writer.line("}")
        elif field.repeated:
            self.writer.line(f"{target} = {list_reader(field)}({place}, {count})")
        else:
            self.writer.line(f"{target} = {read_single(field, place, self.scope)}")

    def write_field(self, field):
        place, value = f"fields.pointee.{field.c_name}", f"self.{names.escaped(field.name)}"
        count = f"fields.pointee.n_{field.c_name}"
        if field.is_map:
            entry = names.c_type(field.entry_name)
            layout = names.c_lower(field.entry_name) + "__layout()"
            self.writer.line(
                f"({place}, {count}) = arena.map({value}, layout: {layout}) {{ "
                f"(entry: UnsafeMutablePointer<{entry}>, key, value) in")
            self.writer.line(f"entry.pointee.key = {write_value(field.key, 'key')}")
            self.writer.line(f"entry.pointee.value = {write_value(field.value, 'value')}")
            self.writer.line("}")
        elif field.repeated:
            self.writer.line(f"({place}, {count}) = {list_writer(field)}({value})")
        elif field.is_message:
            self.writer.line(f"{place} = arena.optional({value})")
        else:
            self.writer.line(f"{place} = {write_value(field, value)}")

    def read_oneof(self, oneof):
        writer = self.writer
        writer.line(f"switch fields.pointee.{oneof.c_name}_case.rawValue {{")
        for field in oneof.fields:
            value = read_required(field, f"fields.pointee.{field.c_name}", self.scope)
            writer.lines.append(
                "    " * writer.depth
                + f"case {field.number}: self.{names.escaped(oneof.name)} = "
                f".{names.escaped(field.name)}({value})")
        writer.line("default: break")
        writer.line("}")

    def write_oneof(self, oneof):
        writer = self.writer
        writer.line(f"switch self.{names.escaped(oneof.name)} {{")
        for field in oneof.fields:
            writer.line(f"case .{names.escaped(field.name)}(let value):")
            writer.line(
                f"    fields.pointee.{oneof.c_name}_case = .init(rawValue: {field.number})")
            writer.line(f"    fields.pointee.{field.c_name} = {write_value(field, 'value')}")
        writer.line("case nil: break")
        writer.line("}")


def coding_file(file, tree):
    writer, foreign = Writer(), set()
    for message in walk(file.messages):
        coding = Coding(writer, message, tree)
        coding.write()
        foreign |= coding.scope.foreign
    return writer.text(), foreign
