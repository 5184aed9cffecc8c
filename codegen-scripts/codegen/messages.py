"""The Swift types: what a user of a message sees."""

import names
from model import SWIFT_SCALARS, Field, OneofNode


class Writer:
    """Lines of Swift, indented by the braces that are open."""

    def __init__(self):
        self.lines = []
        self.depth = 0

    def line(self, text=""):
        if text.startswith("}"):
            self.depth -= 1
        self.lines.append("    " * self.depth + text if text else "")
        if text.endswith("{") or text.endswith(" in"):
            self.depth += 1

    def comment(self, text):
        for line in text.rstrip().splitlines():
            self.line("///" + line.rstrip())

    def text(self):
        return "\n".join(self.lines) + "\n"


class Names:
    """What types are called within one message's scope."""

    def __init__(self, tree, module, scopes):
        self.tree, self.module = tree, module
        self.hidden = set()
        for scope in scopes:
            self.hidden |= scope.nested_names
        # A type that is nested in this very namespace or message is found all the same.
        self.own = {name: scope for scope in scopes for name in scope.nested_names}
        self.foreign = set()

    def type(self, target):
        if target.module is not self.module:
            self.foreign.add(target.module.name)
        parent = target.scope[-1] if target.scope else None
        if parent is not None and self.own.get(target.swift_name) is parent:
            return target.swift_name
        return self.tree.swift_type(target, self.module, self.hidden)

    def element(self, field):
        return self.type(field.target) if field.target else SWIFT_SCALARS[field.type]


def default(field):
    if field.is_map:
        return "[:]"
    if field.repeated:
        return "[]"
    if field.type == Field.TYPE_ENUM:
        return "." + names.escaped(field.target.cases[0][0])
    return {"Bool": "false", "String": '""', "[UInt8]": "[]"}.get(SWIFT_SCALARS[field.type], "0")


def write_property(writer, field, scope):
    name = names.escaped(field.name)
    writer.comment(field.comment)
    if field.is_map:
        key, value = scope.element(field.key), scope.element(field.value)
        writer.line(f"public var {name}: [{key}: {value}] = [:]")
    elif field.repeated:
        writer.line(f"public var {name}: [{scope.element(field)}] = []")
    elif field.boxed:
        stored = "indirect" + field.name[0].upper() + field.name[1:]
        writer.line(f"public var {name}: {scope.element(field)}? {{")
        writer.line(f"get {{ {stored}?.value }}")
        writer.line(f"set {{ {stored} = newValue.map {{ Indirect($0) }} }}")
        writer.line("}")
        writer.line(f"private var {stored}: Indirect<{scope.element(field)}>?")
    elif field.is_message:
        writer.line(f"public var {name}: {scope.element(field)}?")
    else:
        writer.line(f"public var {name}: {scope.element(field)} = {default(field)}")


def write_oneof_property(writer, oneof):
    writer.comment(oneof.comment)
    writer.line(f"public var {names.escaped(oneof.name)}: {oneof.type_name}?")


def write_oneof(writer, oneof, scope):
    writer.comment(oneof.comment)
    all_indirect = len(oneof.indirect) == len(oneof.fields)
    prefix = "indirect " if all_indirect else ""
    writer.line(f"public {prefix}enum {oneof.type_name}: Sendable, Equatable {{")
    for field in oneof.fields:
        writer.comment(field.comment)
        indirect = "indirect " if field.name in oneof.indirect and not all_indirect else ""
        writer.line(f"{indirect}case {names.escaped(field.name)}({scope.element(field)})")
    writer.line("}")


def write_enum(writer, enum):
    writer.comment(enum.comment)
    writer.line(f"public enum {enum.swift_name}: ProtobufEnum {{")
    for name, _, comment in enum.cases:
        writer.comment(comment)
        writer.line(f"case {names.escaped(name)}")
    writer.line("/// A value that this version does not know.")
    writer.line("case unrecognized(Int32)")
    writer.line()
    writer.line("public init(rawValue: Int32) {")
    writer.line("switch rawValue {")
    for name, number, _ in enum.cases:
        writer.lines.append("    " * writer.depth + f"case {number}: self = .{names.escaped(name)}")
    writer.lines.append("    " * writer.depth + "default: self = .unrecognized(rawValue)")
    writer.line("}")
    writer.line("}")
    writer.line()
    writer.line("public var rawValue: Int32 {")
    writer.line("switch self {")
    for name, number, _ in enum.cases:
        writer.line(f"case .{names.escaped(name)}: {number}")
    writer.line("case .unrecognized(let rawValue): rawValue")
    writer.line("}")
    writer.line("}")
    writer.line()
    writer.line("/// The values that are known.")
    all_cases = ", ".join("." + names.escaped(name) for name, _, _ in enum.cases)
    writer.line(f"public static var allCases: [Self] {{ [{all_cases}] }}")
    for name, original in enum.aliases:
        writer.line()
        writer.line(
            f"public static var {names.escaped(name)}: Self {{ .{names.escaped(original)} }}")
    writer.line("}")


def write_message(writer, message, tree, foreign):
    scope = Names(tree, message.module, message.scope + (message,))
    writer.comment(message.comment)
    writer.line(f"public struct {message.swift_name}: ProtobufMessage {{")
    for member in message.members:
        if isinstance(member, OneofNode):
            write_oneof_property(writer, member)
        else:
            write_property(writer, member, scope)
    if message.members:
        writer.line()
    writer.line("/// With every field at its default.")
    writer.line("public init() {}")
    for member in message.members:
        if isinstance(member, OneofNode):
            writer.line()
            write_oneof(writer, member, scope)
    for enum in message.enums:
        writer.line()
        write_enum(writer, enum)
    for nested in message.messages:
        writer.line()
        write_message(writer, nested, tree, foreign)
    writer.line("}")
    foreign |= scope.foreign


def messages_file(file, tree):
    """The text of the file, without its head, and the modules that it names types of."""
    writer, foreign = Writer(), set()
    if file.namespace:
        writer.line(f"extension {file.namespace.swift_name} {{")
    for message in file.messages:
        write_message(writer, message, tree, foreign)
        writer.line()
    for enum in file.enums:
        write_enum(writer, enum)
        writer.line()
    if file.namespace:
        writer.line("}")
    return writer.text(), foreign
