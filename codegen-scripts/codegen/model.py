"""The descriptors of all files as a tree with Swift names, and which types contain themselves."""

from dataclasses import dataclass, field
from typing import Optional

import names
from google.protobuf import descriptor_pb2

Field = descriptor_pb2.FieldDescriptorProto

SWIFT_SCALARS = {
    Field.TYPE_DOUBLE: "Double",
    Field.TYPE_FLOAT: "Float",
    Field.TYPE_INT64: "Int64",
    Field.TYPE_SINT64: "Int64",
    Field.TYPE_SFIXED64: "Int64",
    Field.TYPE_UINT64: "UInt64",
    Field.TYPE_FIXED64: "UInt64",
    Field.TYPE_INT32: "Int32",
    Field.TYPE_SINT32: "Int32",
    Field.TYPE_SFIXED32: "Int32",
    Field.TYPE_UINT32: "UInt32",
    Field.TYPE_FIXED32: "UInt32",
    Field.TYPE_BOOL: "Bool",
    Field.TYPE_STRING: "String",
    Field.TYPE_BYTES: "[UInt8]",
}

# Of the Swift values, in bytes; about right is enough.
SIZES = {"Double": 8, "Float": 4, "Int64": 8, "UInt64": 8, "Int32": 4, "UInt32": 4, "Bool": 1,
         "String": 16, "[UInt8]": 8}


class Unsupported(Exception):
    """The file uses what protobuf-c, or this generator, does not have."""


@dataclass(eq=False)
class Node:
    """A type. `scope` holds the nodes around it, outermost first, without the module."""

    full_name: str
    swift_name: str
    module: object
    scope: tuple
    comment: str

    @property
    def path(self):
        return [node.swift_name for node in self.scope] + [self.swift_name]

    nested_names: set = field(default_factory=set)


@dataclass(eq=False)
class EnumNode(Node):
    # (Swift case, number, comment) of each value; of aliases, (Swift name, Swift case).
    cases: list = field(default_factory=list)
    aliases: list = field(default_factory=list)


@dataclass(eq=False)
class FieldNode:
    name: str
    c_name: str
    number: int
    type: int
    repeated: bool
    comment: str
    proto: object
    # The message or enum that it holds.
    target: Optional[Node] = None
    # Of a map: the fields of its entries.
    key: Optional["FieldNode"] = None
    value: Optional["FieldNode"] = None
    entry_name: str = ""
    boxed: bool = False

    @property
    def is_map(self):
        return self.key is not None

    @property
    def is_message(self):
        return self.type == Field.TYPE_MESSAGE


@dataclass(eq=False)
class OneofNode:
    name: str
    type_name: str
    c_name: str
    comment: str
    fields: list
    indirect: set = field(default_factory=set)


@dataclass(eq=False)
class MessageNode(Node):
    # FieldNodes and OneofNodes, in the order of the file.
    members: list = field(default_factory=list)
    messages: list = field(default_factory=list)
    enums: list = field(default_factory=list)
    # May contain, at some depth, a type that contains itself.
    unbounded: bool = False

    @property
    def fields(self):
        for member in self.members:
            if isinstance(member, OneofNode):
                yield from member.fields
            else:
                yield member

    def edges(self):
        for each in self.fields:
            held = each.value if each.is_map else each
            if held.is_message:
                yield held.target


@dataclass(eq=False)
class ServiceNode(Node):
    # (Swift name, name, request, response, kind, comment) of each method.
    methods: list = field(default_factory=list)


@dataclass(eq=False)
class FileNode:
    proto: object
    module: object
    namespace: Optional[Node]
    messages: list = field(default_factory=list)
    enums: list = field(default_factory=list)
    services: list = field(default_factory=list)


class Tree:
    """Every file of the plan's modules."""

    def __init__(self, descriptor_set, modules):
        self.files = {}
        self.types = {}
        self.top_level = {module.name: set() for module in modules}
        module_of = {proto: module for module in modules for proto in module.protos}
        protos = [file for file in descriptor_set.file if file.name in module_of]
        for proto in protos:
            self.files[proto.name] = self._declare(proto, module_of[proto.name])
        for file in self.files.values():
            for message in walk(file.messages):
                self._link(message)
        for file in self.files.values():
            self._declare_services(file)
        self._find_cycles([m for file in self.files.values() for m in walk(file.messages)])

    # First all types are named, then the fields refer to them.

    def _declare(self, proto, module):
        if proto.syntax != "proto3":
            raise Unsupported(f"{proto.name}: only proto3 is generated")
        self._comments = {
            tuple(location.path): location.leading_comments
            for location in proto.source_code_info.location
        }
        self._module = module
        taken = self.top_level[module.name]
        scope, namespace = (), None
        if proto.package in module.namespaces:
            name = module.namespaces[proto.package]
            taken.add(name)
            namespace = self.types.setdefault(
                f"namespace {name}", Node(proto.package, name, module, (), ""))
            scope, taken = (namespace,), namespace.nested_names
        file = FileNode(proto, module, namespace)
        prefix = proto.package + "." if proto.package else ""
        for index, message in enumerate(proto.message_type):
            file.messages.append(self._message(message, prefix, scope, taken, (4, index)))
        for index, enum in enumerate(proto.enum_type):
            file.enums.append(self._enum(enum, prefix, scope, taken, (5, index)))
        return file

    def _comment(self, path):
        return self._comments.get(tuple(path), "")

    def _message(self, proto, prefix, scope, taken, path):
        node = MessageNode(
            full_name=prefix + proto.name,
            swift_name=names.type_name(names.upper_camel(proto.name), "Message", taken),
            module=self._module, scope=scope, comment=self._comment(path))
        node.proto, node.proto_path, node.comments = proto, path, self._comments
        self.types[node.full_name] = node
        node.entries = {}
        inner, inside = node.full_name + ".", scope + (node,)
        for index, nested in enumerate(proto.nested_type):
            if nested.options.map_entry:
                node.entries["." + inner + nested.name] = nested
            else:
                node.messages.append(
                    self._message(nested, inner, inside, node.nested_names, path + (3, index)))
        for index, enum in enumerate(proto.enum_type):
            node.enums.append(
                self._enum(enum, inner, inside, node.nested_names, path + (4, index)))
        return node

    def _enum(self, proto, prefix, scope, taken, path):
        node = EnumNode(
            full_name=prefix + proto.name,
            swift_name=names.type_name(names.upper_camel(proto.name), "Enum", taken),
            module=self._module, scope=scope, comment=self._comment(path))
        self.types[node.full_name] = node
        swift_names = names.enum_case_names(proto.name, [value.name for value in proto.value])
        used, by_number = set(), {}
        for index, (value, camel) in enumerate(zip(proto.value, swift_names)):
            name = names.member_name(camel, used)
            if value.number in by_number:
                node.aliases.append((name, by_number[value.number]))
                continue
            by_number[value.number] = name
            node.cases.append((name, value.number, self._comment(path + (2, index))))
        return node

    def _link(self, message):
        used_swift, used_c = set(), set()
        oneofs = {}
        message.c_fields, message.c_oneofs = {}, {}
        for index, proto in enumerate(message.proto.oneof_decl):
            camel = names.upper_camel(proto.name)
            if camel in message.nested_names or camel in names.RESERVED_TYPES:
                camel = "OneOf" + camel
            message.nested_names.add(camel)
            c_name = proto.name if proto.name.islower() else f"oneof_{index}"
            used_c.update((c_name, c_name + "_case"))
            message.c_oneofs[index] = c_name
            oneofs[index] = OneofNode(
                name=names.member_name(names.lower_camel(proto.name), used_swift),
                type_name=camel, c_name=c_name, fields=[],
                comment=message.comments.get(message.proto_path + (8, index), ""))
        for index, proto in enumerate(message.proto.field):
            if proto.proto3_optional:
                raise Unsupported(
                    f"{message.full_name}.{proto.name}: protobuf-c 1.4 has no `optional` in "
                    "proto3; a oneof with one field has presence, too")
            in_oneof = proto.HasField("oneof_index")
            used = set() if in_oneof else used_swift
            node = self._field(message, index, proto, used_c, used)
            if not in_oneof:
                message.members.append(node)
                continue
            oneof = oneofs[proto.oneof_index]
            if not oneof.fields:
                oneof.used = set()
                message.members.append(oneof)
            node.name = names.member_name(names.lower_camel(proto.name), oneof.used)
            oneof.fields.append(node)

    def _field(self, message, index, proto, used_c, used_swift):
        lower = proto.name.lower()
        repeated = proto.label == Field.LABEL_REPEATED
        claims = {lower, "n_" + lower} if repeated else {lower}
        c_name = lower
        if lower in names.RISKY_C_FIELDS or claims & used_c or lower.startswith(("n_", "_")):
            c_name = f"field_{proto.number}"
            claims = {c_name}
        used_c.update(claims)
        message.c_fields[proto.number] = c_name
        node = FieldNode(
            name=names.member_name(names.lower_camel(proto.name), used_swift),
            c_name=c_name, number=proto.number, type=proto.type, repeated=repeated, proto=proto,
            comment=message.comments.get(message.proto_path + (2, index), ""))
        entry = message.entries.get(proto.type_name)
        if entry is not None:
            node.entry_name = proto.type_name[1:]
            node.key, node.value = (self._plain(each) for each in entry.field)
        elif proto.type_name:
            node.target = self._target(message, proto)
        return node

    def _plain(self, proto):
        target = self._target(None, proto) if proto.type_name else None
        return FieldNode(proto.name, proto.name, proto.number, proto.type, False, "", proto, target)

    def _target(self, message, proto):
        if proto.type == Field.TYPE_GROUP:
            raise Unsupported(f"{message.full_name}.{proto.name}: protobuf-c has no groups")
        if proto.type_name[1:] not in self.types:
            raise Unsupported(f"{proto.type_name[1:]} is of a file that no module generates")
        return self.types[proto.type_name[1:]]

    def _declare_services(self, file):
        comments = {
            tuple(location.path): location.leading_comments
            for location in file.proto.source_code_info.location
        }
        taken = self.top_level[file.module.name]
        scope = ()
        if file.namespace:
            scope, taken = (file.namespace,), file.namespace.nested_names
        prefix = file.proto.package + "." if file.proto.package else ""
        for index, proto in enumerate(file.proto.service):
            node = ServiceNode(
                prefix + proto.name,
                names.type_name(names.upper_camel(proto.name), "Service", taken),
                file.module, scope, comments.get((6, index), ""))
            used = {"fullName", "allMethods", "channel"}
            for number, method in enumerate(proto.method):
                kind = {
                    (False, False): "unary", (True, False): "clientStreaming",
                    (False, True): "serverStreaming", (True, True): "bidirectional",
                }[method.client_streaming, method.server_streaming]
                node.methods.append((
                    names.member_name(names.lower_camel(method.name), used), method.name,
                    self.types[method.input_type[1:]], self.types[method.output_type[1:]], kind,
                    comments.get((6, index, 2, number), "")))
            file.services.append(node)

    def _find_cycles(self, messages):
        reach = {}
        for start in messages:
            seen, stack = set(), list(start.edges())
            while stack:
                node = stack.pop()
                if node not in seen:
                    seen.add(node)
                    stack.extend(node.edges())
            reach[start] = seen
        cyclic = {message for message in messages if message in reach[message]}
        for message in messages:
            message.unbounded = message in cyclic or bool(reach[message] & cyclic)
            for member in message.members:
                if isinstance(member, FieldNode):
                    member.boxed = (
                        member.is_message and not member.repeated
                        and message in reach[member.target])
                    continue
                for each in member.fields:
                    if each.is_message and message in reach[each.target]:
                        member.indirect.add(each.name)
        # A large case makes every value of the enum large: it goes to the heap.
        sizes = {}
        for message in messages:
            for member in message.members:
                if isinstance(member, OneofNode):
                    for each in member.fields:
                        if each.is_message and message_size(each.target, sizes) > 96:
                            member.indirect.add(each.name)

    # Names

    def swift_type(self, target, module, hidden):
        """How code of `module` refers to a type.

        hidden: names that mean something else there: those of the types around it, and of what
        is nested in them.
        """
        path = ".".join(target.path)
        first = target.path[0]
        if target.module is module:
            return path if first not in hidden else f"{module.name}.{path}"
        others = [name for name, names_ in self.top_level.items()
                  if name != target.module.name and first in names_]
        return f"{target.module.name}.{path}" if others or first in hidden else path


def message_size(message, sizes):
    if message in sizes:
        return sizes[message]
    sizes[message] = 8
    total = 0
    for member in message.members:
        if isinstance(member, OneofNode):
            total += 1 + max(
                8 if each.name in member.indirect else field_size(each, sizes)
                for each in member.fields)
        else:
            total += field_size(member, sizes)
    sizes[message] = total
    return total


def field_size(each, sizes):
    if each.repeated or each.boxed:
        return 8
    if each.is_message:
        return 1 + message_size(each.target, sizes)
    return SIZES.get(SWIFT_SCALARS.get(each.type), 8)


def walk(messages):
    for message in messages:
        yield message
        yield from walk(message.messages)
