// Random messages on their way through protoc and back.

import Protobuf
import Testing

@Suite(.enabled(if: Protoc.isInstalled), .serialized) struct ProtocTests {
    @Test(arguments: 0..<8) func protocReadsAndWritesTheSameMessages(seed: UInt64) throws {
        var random = SeededGenerator(seed: 90_000 + seed)
        // Many at once, as starting protoc takes a while.
        try expectSame(
            Repeated.with { $0.inners = (0..<50).map { _ in random.nested().inner ?? .init() } })
        try expectSame(random.repeated())
        try expectSame(random.scalars())
        try expectSame(random.maps())
        try expectSame(random.choice())
        try expectSame(random.tree())
    }

    private func expectSame<Message: ProtobufMessage>(_ message: Message) throws {
        let bytes = try Protoc.reencoded(message.encoded(), as: Message.fullName)
        #expect(try Message(decoding: bytes) == message)
    }
}
