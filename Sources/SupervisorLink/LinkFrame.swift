// The frame of the link between gateway and supervisor: a message behind its length,
// four bytes, little endian. What a WriteStdin writes follows its frame, raw, so that it is
// neither encoded nor decoded. Knows no socket.

import Protobuf

enum LinkFrame {
    static let lengthSize = 4
    /// The longest message either side takes: the largest request that a gateway may be told to
    /// take, with a little around it. Room is made as the bytes come.
    static let maxLength = (1 << 30) + (4 << 20)
    /// The same of a Hello: who says none may be anybody.
    static let maxHelloLength = 4096
    /// The longest attachment.
    static let maxAttachedBytes = 1 << 20

    static func encoded(_ message: some ProtobufMessage) -> [UInt8] {
        message.withEncoded { body in
            [UInt8](unsafeUninitializedCapacity: lengthSize + body.count) { frame, count in
                for index in 0..<lengthSize {
                    frame[index] = UInt8(truncatingIfNeeded: body.count >> (8 * index))
                }
                if let target = frame.baseAddress, let source = body.baseAddress {
                    UnsafeMutableRawPointer(target + lengthSize)
                        .copyMemory(from: source, byteCount: body.count)
                }
                count = lengthSize + body.count
            }
        }
    }

    /// The length in the first four bytes; `nil` where it is beyond `maxLength`.
    static func length(_ head: some Collection<UInt8>) -> Int? {
        var length = 0
        for (index, byte) in head.prefix(lengthSize).enumerated() {
            length |= Int(byte) << (8 * index)
        }
        return length <= maxLength ? length : nil
    }
}
