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
