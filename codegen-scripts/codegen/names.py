"""From the names of a proto file to those of Swift and of protoc-c's C."""

import re

SWIFT_KEYWORDS = frozenset(
    """associatedtype borrowing class consuming deinit enum extension fileprivate func import
    inout internal let open operator package precedencegroup private protocol public rethrows
    static struct subscript typealias var break case catch continue default defer do else
    fallthrough for guard if in repeat return switch throw where while any as await false is nil
    super throws true try""".split()
)

# What cannot be declared even in backticks, or would hide a member that every type has.
RESERVED_MEMBERS = frozenset(
    """self init Type encoded encode decode withEncoder withEncoded write hash hashValue
    rawValue allCases unrecognized with""".split()
)

# Types that generated code names without their module, and others of the standard library that a
# user of the generated module would no longer find under their names.
RESERVED_TYPES = frozenset(
    """Actor Any AnyObject Array Character Clock Codable Collection Comparable Decodable Duration
    Encodable Equatable Hashable Identifiable Instant Iterator Range Sendable Sequence Set Slice
    Substring Task TaskGroup Unicode Arena Bool CList CMessage CStruct CaseIterable Dictionary Double Error
    Failure FileDescriptor FileDescriptors Float Indirect Int Int32 Int64 MessageEncoder
    MethodDescriptor Never Optional Protobuf ProtobufCMessageDescriptor ProtobufEnum
    ProtobufError ProtobufMessage Protocol Result Self StreamingKind String Swift Type UInt32
    UInt64 UInt8 UnsafeBufferPointer UnsafeMutablePointer UnsafePointer UnsafeRawBufferPointer
    Void""".split()
)

# protoc-c appends an underscore to C's and C++'s keywords; the rest is special in Swift after a
# dot, or a member that protoc-c adds.
RISKY_C_FIELDS = frozenset(
    """and and_eq asm auto bitand bitor bool break case catch char class compl const const_cast
    continue default delete do double dynamic_cast else enum explicit extern false float for
    friend goto if inline int long mutable namespace new not not_eq operator or or_eq private
    protected public register reinterpret_cast return short signed sizeof static static_cast
    struct switch template this throw true try typedef typeid typename union unsigned using
    virtual void volatile wchar_t while xor xor_eq restrict typeof alignas alignof constexpr
    decltype noexcept nullptr static_assert thread_local
    base self init type protocol linux unix i386 errno stdin stdout stderr""".split()
)


def lower_camel(name):
    """`stdin_data` and `StdinData` are stdinData, `URLFetch` is urlFetch, `TIMED_OUT` timedOut."""
    parts = [part for part in name.split("_") if part]
    if not parts:
        return name
    if name.upper() == name:
        parts = [part.lower() for part in parts]
    first = parts[0]
    initials = re.match(r"[A-Z]+(?![a-z])|[A-Z]", first)
    if initials:
        first = initials.group().lower() + first[initials.end():]
    return first + "".join(part[0].upper() + part[1:] for part in parts[1:])


def upper_camel(name):
    return "".join(part[0].upper() + part[1:] for part in name.split("_") if part) or name


def upper_snake(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).upper()


def escaped(identifier):
    return f"`{identifier}`" if identifier in SWIFT_KEYWORDS else identifier


def member_name(camel, taken):
    """A property's or case's name, different from those that are taken."""
    if camel in RESERVED_MEMBERS:
        camel += "Value"
    if camel[0].isdigit():
        camel = "value" + camel
    name, number = camel, 2
    while name in taken:
        name, number = f"{camel}{number}", number + 1
    taken.add(name)
    return name


def type_name(camel, suffix, taken):
    camel = camel[0].upper() + camel[1:]
    if camel in RESERVED_TYPES or camel in taken:
        camel += suffix
    if camel in taken:
        raise ValueError(f"two types would be called {camel}")
    taken.add(camel)
    return camel


def enum_case_names(enum_name, value_names):
    """The values without the enum's name, where all of them begin with it."""
    prefix = upper_snake(enum_name) + "_"
    strip = all(
        name.startswith(prefix) and not name[len(prefix):][:1].isdigit() and name != prefix
        for name in value_names
    )
    return [lower_camel(name[len(prefix):] if strip else name) for name in value_names]


def c_type(full_name):
    """protoc-c's struct: procgate.v1.ProcessSpec is Procgate__V1__ProcessSpec."""
    return "__".join(upper_camel(piece) for piece in full_name.split("."))


def c_lower(full_name):
    """The prefix of protoc-c's functions: procgate__v1__process_spec."""

    def lower(piece):
        result, was_upper = "", True
        for character in piece:
            if character.isupper() and not was_upper:
                result += "_"
            result += character.lower()
            was_upper = character.isupper()
        return result

    return "__".join(lower(piece) for piece in full_name.split("."))


def c_identifier(path):
    return re.sub(r"[^a-zA-Z0-9]", "_", path)
