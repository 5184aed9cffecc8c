// What some fields of an encoded message hold, told without decoding it: what costs too much is
// refused before it is made. Knows no message.

/// Adds up fields.
public enum FieldSum {
    /// The bytes of every field `numbers` with a length, and `each` for every one of them, in the
    /// messages that lie at `path`: field by field, from the outermost. What is malformed ends
    /// the sum.
    public static func bytes(
        of numbers: [UInt32], each: Int, at path: some Collection<UInt32>,
        in message: UnsafeRawBufferPointer
    ) -> Int {
        var sum = 0
        var reader = FieldReader(bytes: message)
        while let (number, content) = try? reader.nextLengthDelimited() {
            if let outer = path.first {
                guard number == outer else { continue }
                sum += bytes(of: numbers, each: each, at: path.dropFirst(), in: content)
            } else if numbers.contains(number) {
                sum += content.count + each
            }
        }
        return sum
    }
}
