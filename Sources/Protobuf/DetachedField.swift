// A field of bytes taken out of an encoded message, so that what it holds is never copied.
// Knows no message.

/// An encoded message without one of its fields, and where that lies in it.
public struct DetachedField: Sendable {
    /// The message's other fields, encoded as they were.
    public let rest: [UInt8]
    /// The field's content; empty where the message has none. As with every parser, the last one
    /// counts.
    public let content: Range<Int>

    /// Takes the length-delimited field `number` out of `message`. Throws where that is malformed.
    public init(_ number: UInt32, of message: UnsafeRawBufferPointer) throws(ProtobufError) {
        var rest: [UInt8] = []
        var content = 0..<0
        var reader = FieldReader(bytes: message)
        while true {
            let start = reader.offset
            guard let (found, field) = try reader.next() else { break }
            if found == number, case .lengthDelimited(let bytes) = field {
                // It ends where the reader stands.
                content = reader.offset - bytes.count..<reader.offset
            } else {
                rest += message[start..<reader.offset]
            }
        }
        self.rest = rest
        self.content = content
    }
}
