// Arbitrary bytes: refused or decoded, never a trap, and what is decoded can be encoded.

import ProcgateV1
import Protobuf
import Testing

@Suite struct FuzzTests {
    @Test(arguments: messageTypes.indices) func randomBytesAreRefusedOrDecoded(index: Int) {
        var random = SeededGenerator(seed: UInt64(index))
        for _ in 0..<3000 { feed(messageTypes[index], random.bytes(upTo: 60)) }
    }

    @Test(arguments: messageTypes.indices) func randomFieldsAreRefusedOrDecoded(index: Int) {
        var random = SeededGenerator(seed: 1000 + UInt64(index))
        for _ in 0..<2000 { feed(messageTypes[index], random.fields(depth: 4)) }
    }

    @Test(arguments: 0..<400) func damagedMessagesAreRefusedOrDecoded(seed: UInt64) {
        var random = SeededGenerator(seed: 5000 + seed)
        let messages: [any ProtobufMessage] = [
            random.scalars(), random.repeated(), random.maps(), random.choice(), random.tree(),
        ]
        for message in messages {
            let bytes = message.encoded()
            for _ in 0..<10 { feed(like: message, random.damaged(bytes)) }
        }
        for _ in 0..<10 { feed(ExecRequest.self, random.damaged(Golden.execRequest)) }
        for _ in 0..<10 { feed(ProcessEvent.self, random.damaged(Golden.processEvent)) }
    }

    private func feed<Message: ProtobufMessage>(like message: Message, _ bytes: [UInt8]) {
        feed(Message.self, bytes)
    }

    private func feed<Message: ProtobufMessage>(_ type: Message.Type, _ bytes: [UInt8]) {
        guard let message = try? Message(decoding: bytes) else { return }
        let encoded = message.encoded()
        guard let again = try? Message(decoding: encoded) else {
            Issue.record("\(Message.fullName) of \(bytes) cannot be decoded again")
            return
        }
        // A NaN differs from itself, and maps are in no order: then the sizes agree at least.
        #expect(
            again == message || again.encoded().count == encoded.count,
            "\(Message.fullName) of \(bytes)")
    }
}

extension SeededGenerator {
    /// Fields with small numbers and right lengths, so that most of them are of the message.
    mutating func fields(depth: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        for _ in 0..<next() % 6 {
            let number = next() % 18 + 1
            switch next() % 8 {
            case 0: bytes += field(number, varint: integer())
            case 1:
                bytes +=
                    tag(number, .fixed64) + (0..<8).map { _ in UInt8(truncatingIfNeeded: next()) }
            case 2: bytes += tag(number, .fixed32) + [1, 2, 3, 4]
            case 3: bytes += field(number, self.bytes())
            case 4: bytes += field(number, [UInt8](string().utf8))
            default: bytes += field(number, depth > 0 ? fields(depth: depth - 1) : [])
            }
        }
        return bytes
    }

    /// With some bytes changed, taken out, doubled, or cut off at the end.
    mutating func damaged(_ original: [UInt8]) -> [UInt8] {
        var bytes = original
        for _ in 0...next() % 3 where !bytes.isEmpty {
            let index = Int(next() % UInt64(bytes.count))
            switch next() % 5 {
            case 0: bytes[index] = UInt8(truncatingIfNeeded: next())
            case 1: bytes[index] ^= 1 << (next() % 8)
            case 2: bytes.remove(at: index)
            case 3: bytes.insert(contentsOf: bytes[index...].prefix(8), at: index)
            default: bytes.removeSubrange(index...)
            }
        }
        return bytes
    }
}
