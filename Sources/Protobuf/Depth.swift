// How deep messages lie within messages, told from the bytes before protobuf-c descends into
// them, which it does without a limit. Knows no particular message.
package import CProtobufC

/// Refuses messages that nest deeper than `ProtobufLimits.nestedMessages`.
///
/// Reads tags and lengths as protobuf-c does, each byte at most once. Takes a stack frame for
/// each level.
package func checkDepth(
    of bytes: UnsafeRawBufferPointer, as layout: UnsafePointer<ProtobufCMessageDescriptor>
) throws(ProtobufError) {
    try checkDepth(of: bytes, as: layout, levels: ProtobufLimits.nestedMessages)
}

private func checkDepth(
    of bytes: UnsafeRawBufferPointer, as layout: UnsafePointer<ProtobufCMessageDescriptor>,
    levels: Int
) throws(ProtobufError) {
    var reader = FieldReader(bytes: bytes)
    while let (number, nested) = try reader.nextLengthDelimited() {
        guard nested.count > 0,
            let field = protobuf_c_message_descriptor_get_field(layout, number),
            field.pointee.type == PROTOBUF_C_TYPE_MESSAGE,
            let descriptor = field.pointee.descriptor
        else { continue }
        guard levels > 0 else { throw .tooDeep }
        try checkDepth(
            of: nested,
            as: descriptor.assumingMemoryBound(to: ProtobufCMessageDescriptor.self),
            levels: levels - 1)
    }
}

/// Goes through the fields of an encoded message.
private struct FieldReader {
    private var rest: Slice<UnsafeRawBufferPointer>

    init(bytes: UnsafeRawBufferPointer) {
        rest = bytes[...]
    }

    /// The next field with a length, and its content; nil at the end. Skips all others.
    mutating func nextLengthDelimited() throws(ProtobufError) -> (UInt32, UnsafeRawBufferPointer)? {
        while !rest.isEmpty {
            let tag = try varint(maxBytes: 5)
            switch tag & 7 {
            case 0: _ = try varint(maxBytes: 10)
            case 1: _ = try take(8)
            case 2:
                let length = try varint(maxBytes: 5)
                let content = try take(length)
                return (UInt32(truncatingIfNeeded: tag) >> 3, content)
            case 5: _ = try take(4)
            default: throw .malformed
            }
        }
        return nil
    }

    private mutating func varint(maxBytes: Int) throws(ProtobufError) -> UInt64 {
        var value: UInt64 = 0
        for index in 0..<maxBytes {
            guard let byte = rest.popFirst() else { throw .malformed }
            value |= UInt64(byte & 0x7f) << UInt64(7 * index)
            if byte & 0x80 == 0 { return value }
        }
        throw .malformed
    }

    private mutating func take(_ count: UInt64) throws(ProtobufError) -> UnsafeRawBufferPointer {
        guard count <= UInt64(rest.count) else { throw .malformed }
        let content = rest.prefix(Int(count))
        rest = rest.dropFirst(Int(count))
        return UnsafeRawBufferPointer(rebasing: content)
    }
}
