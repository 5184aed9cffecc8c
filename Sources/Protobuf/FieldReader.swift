// The fields of an encoded message one after the other, as protobuf-c reads them, and groups,
// which it does not read. Knows no message.

/// Goes through the fields of an encoded message.
struct FieldReader {
    private var rest: Slice<UnsafeRawBufferPointer>

    init(bytes: UnsafeRawBufferPointer) {
        rest = bytes[...]
    }

    enum Content {
        case varint
        case fixed64
        case lengthDelimited(UnsafeRawBufferPointer)
        case fixed32
        /// Up to the end of the group.
        case group
    }

    /// Where the next field begins.
    var offset: Int { rest.startIndex }

    /// The next field with a length, and its content; nil at the end. Skips all others.
    mutating func nextLengthDelimited() throws(ProtobufError) -> (UInt32, UnsafeRawBufferPointer)? {
        while let (number, content) = try next() {
            if case .lengthDelimited(let bytes) = content { return (number, bytes) }
        }
        return nil
    }

    /// The next field, whatever it is; nil at the end.
    mutating func next() throws(ProtobufError) -> (UInt32, Content)? {
        guard !rest.isEmpty else { return nil }
        let (number, type) = try tag()
        switch type {
        case 3:
            try skipGroup(number)
            return (number, .group)
        default:
            return (number, try content(type))
        }
    }

    private mutating func tag() throws(ProtobufError) -> (number: UInt32, type: UInt64) {
        let tag = try varint(maxBytes: 5)
        return (UInt32(truncatingIfNeeded: tag) >> 3, tag & 7)
    }

    private mutating func content(_ type: UInt64) throws(ProtobufError) -> Content {
        switch type {
        case 0:
            _ = try varint(maxBytes: 10)
            return .varint
        case 1:
            _ = try take(8)
            return .fixed64
        case 2:
            let length = try varint(maxBytes: 5)
            return .lengthDelimited(try take(length))
        case 5:
            _ = try take(4)
            return .fixed32
        default:
            throw .malformed
        }
    }

    /// To behind the end of a group whose start was read.
    private mutating func skipGroup(_ number: UInt32) throws(ProtobufError) {
        var open = [number]
        while let innermost = open.last {
            let (number, type) = try tag()
            switch type {
            case 3:
                guard open.count < ProtobufLimits.nestedMessages else { throw .tooDeep }
                open.append(number)
            case 4:
                guard number == innermost else { throw .malformed }
                open.removeLast()
            default:
                _ = try content(type)
            }
        }
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
