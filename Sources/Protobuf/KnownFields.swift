// What every proto3 parser skips as unknown and protobuf-c refuses the whole message for: groups,
// and known fields with another wire type than theirs. Asked only once protobuf-c has refused a
// message, so that others cost nothing. Knows no particular message.
import CProtobufC

/// A message's encoding without such fields.
struct KnownFields {
    private(set) var bytes: [UInt8] = []
    /// There were some: without them the message may be taken.
    private(set) var hasDropped = false

    /// Appends what is known of `encoding`, each of whose bytes is copied at most once. As deep as
    /// the type lets it be, which `checkDepth` has seen to where that is without limit.
    mutating func append(
        _ encoding: UnsafeRawBufferPointer, as layout: UnsafePointer<ProtobufCMessageDescriptor>
    ) throws(ProtobufError) {
        var reader = FieldReader(bytes: encoding)
        while true {
            let start = reader.offset
            guard let (number, content) = try reader.next() else { return }
            guard number > 0 else { throw .malformed }
            if case .group = content {
                hasDropped = true
                continue
            }
            guard let field = protobuf_c_message_descriptor_get_field(layout, number) else {
                continue
            }
            guard Self.accepts(field.pointee, content) else {
                hasDropped = true
                continue
            }
            if field.pointee.type == PROTOBUF_C_TYPE_MESSAGE,
                let descriptor = field.pointee.descriptor,
                case .lengthDelimited(let nested) = content
            {
                appendVarint(UInt64(number) << 3 | 2)
                let place = bytes.count
                bytes += [UInt8](repeating: 0, count: Self.lengthBytes)
                try append(
                    nested,
                    as: descriptor.assumingMemoryBound(to: ProtobufCMessageDescriptor.self))
                setLength(at: place)
            } else {
                bytes += UnsafeRawBufferPointer(rebasing: encoding[start..<reader.offset])
            }
        }
    }

    /// A length that is not known yet has so many bytes, padded where it needs less.
    private static let lengthBytes = 5

    private mutating func setLength(at place: Int) {
        var rest = bytes.count - place - Self.lengthBytes
        for index in 0..<Self.lengthBytes {
            let isLast = index == Self.lengthBytes - 1
            bytes[place + index] = UInt8(rest & 0x7f) | (isLast ? 0 : 0x80)
            rest >>= 7
        }
    }

    private mutating func appendVarint(_ value: UInt64) {
        var rest = value
        while rest > 0x7f {
            bytes.append(UInt8(rest & 0x7f) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }

    private static func accepts(
        _ field: ProtobufCFieldDescriptor, _ content: FieldReader.Content
    ) -> Bool {
        // A list of numbers may be packed or not, whatever its type says.
        let isList = field.label == PROTOBUF_C_LABEL_REPEATED
        switch field.type {
        case PROTOBUF_C_TYPE_STRING, PROTOBUF_C_TYPE_BYTES, PROTOBUF_C_TYPE_MESSAGE:
            if case .lengthDelimited = content { return true }
        case PROTOBUF_C_TYPE_SFIXED32, PROTOBUF_C_TYPE_FIXED32, PROTOBUF_C_TYPE_FLOAT:
            if case .fixed32 = content { return true }
            if case .lengthDelimited = content { return isList }
        case PROTOBUF_C_TYPE_SFIXED64, PROTOBUF_C_TYPE_FIXED64, PROTOBUF_C_TYPE_DOUBLE:
            if case .fixed64 = content { return true }
            if case .lengthDelimited = content { return isList }
        default:
            if case .varint = content { return true }
            if case .lengthDelimited = content { return isList }
        }
        return false
    }
}
