// What hostile bytes can cost.

import GRPCProtos
import ProcgateV1
import Protobuf
import Testing

@Suite struct LimitsTests {
    @Test func emptyMessagesInTwoBytesEachRunIntoTheLimit() {
        let bytes = [[UInt8]](repeating: [0x0a, 0x00], count: 1 << 20).flatMap { $0 }
        #expect(throws: ProtobufError.tooLarge) { try ListProcessesResponse(decoding: bytes) }
        #expect(throws: ProtobufError.tooLarge) { try decode(ListProcessesResponse.self, 100, 999) }
    }

    @Test func emptyStringsAndEntriesRunIntoTheLimit() {
        #expect(throws: ProtobufError.tooLarge) { try decode(ProcessSpec.self, 1 << 20, 1 << 20) }
        let entries = [[UInt8]](repeating: [0x22, 0x00], count: 1 << 20).flatMap { $0 }
        #expect(throws: ProtobufError.tooLarge) { try ProcessSpec(decoding: entries) }
    }

    @Test func unknownFieldsRunIntoTheLimit() {
        let fields = [[UInt8]](repeating: [0x78, 0x00], count: 1 << 20).flatMap { $0 }
        #expect(throws: ProtobufError.tooLarge) { try KeepAlive(decoding: fields) }
    }

    @Test func packedNumbersRunIntoTheLimit() throws {
        let packed = field(6, [UInt8](repeating: 1, count: 1 << 20))
        #expect(try Repeated(decoding: packed).uint64s.count == 1 << 20)
        #expect(throws: ProtobufError.tooLarge) { try decode(Repeated.self, packed, 1 << 20) }
    }

    @Test func piecesOfAMessageThatAreMergedAgainAndAgainRunIntoTheLimit() {
        // Each merge makes a new list of all elements so far.
        let first = field(1, [[UInt8]](repeating: [0x12, 0x00], count: 4096).flatMap { $0 })
        let second = field(1, [0x12, 0x00])
        let bytes = first + [[UInt8]](repeating: second, count: 20_000).flatMap { $0 }
        #expect(throws: ProtobufError.tooLarge) { try ExecRequest(decoding: bytes) }
    }

    @Test func theLimitIsOfMemoryAndNotOfBytes() throws {
        let data = [UInt8](repeating: 7, count: 16 << 20)
        let message = ExecRequest.with { $0.stdinData = data }
        let bytes = message.encoded()
        #expect(try ExecRequest(decoding: bytes) == message)
        #expect(throws: ProtobufError.tooLarge) {
            try decode(ExecRequest.self, bytes, 16 << 20)
        }
        #expect(try decode(ExecRequest.self, bytes, 17 << 20) == message)
    }

    @Test(arguments: [0, 1, 7, 8, 100, -1]) func aTinyLimitRefusesAllButTheEmptyMessage(
        limit: Int
    ) throws {
        #expect(throws: ProtobufError.tooLarge) {
            try decode(Process.self, field(1, [97]), limit)
        }
        #expect(try decode(Process.self, [], limit) == Process())
    }

    @Test func messagesMayNestToTheLimitAndNoDeeper() throws {
        #expect(try Tree(decoding: tree(depth: 100)).left != nil)
        #expect(throws: ProtobufError.tooDeep) { try Tree(decoding: tree(depth: 102)) }
        #expect(throws: ProtobufError.tooDeep) { try Tree(decoding: tree(depth: 10_000)) }
        #expect(throws: ProtobufError.tooDeep) {
            try Forest(decoding: field(1, tree(depth: 10_000)))
        }
    }

    @Test(arguments: [3, 4, 5] as [UInt64]) func everyWayToNestIsCounted(number: UInt64) {
        var bytes: [UInt8] = []
        for _ in 0..<500 {
            bytes = number == 3 ? field(3, bytes) : field(number, field(number == 4 ? 2 : 1, bytes))
        }
        #expect(throws: ProtobufError.tooDeep) { try Tree(decoding: bytes + field(6, [97])) }
    }

    @Test func oneofsThatNestAreCounted() {
        var bytes: [UInt8] = field(1, varint: 1)
        for _ in 0..<500 { bytes = field(8, bytes) }
        #expect(throws: ProtobufError.tooDeep) { try Choice(decoding: bytes) }
    }

    @Test func depthIsNotCountedInFieldsThatHoldNoMessage() throws {
        let label = tree(depth: 60)
        let bytes = field(2, field(6, label))
        #expect(try Tree(decoding: bytes).right?.label.utf8.count == label.count)
        // Unknown fields are not descended into.
        #expect(try Tree(decoding: field(99, tree(depth: 1000))) == Tree())
    }

    @Test func malformedBytesOfANestingTypeAreRefused() {
        let all: [[UInt8]] = [
            [0x0a], [0x0a, 0x05, 0x0a], [0x0a, 0x02, 0x0a, 0x05], [0x0b], [0x80],
        ]
        for bytes in all {
            #expect(throws: ProtobufError.malformed) { try Tree(decoding: bytes) }
        }
    }

    private func decode<Message: ProtobufMessage>(
        _ type: Message.Type, _ bytes: [UInt8], _ limit: Int
    ) throws -> Message {
        try bytes.withUnsafeBytes { try Message(decoding: $0, memoryLimit: limit) }
    }

    /// `count` times an element of no bytes in field 1 or 2, whichever is a list.
    private func decode<Message: ProtobufMessage>(
        _ type: Message.Type, _ count: Int, _ limit: Int
    ) throws -> Message {
        let element: [UInt8] = type == ProcessSpec.self ? [0x12, 0x00] : [0x0a, 0x00]
        let bytes = [[UInt8]](repeating: element, count: count).flatMap { $0 }
        return try decode(type, bytes, limit)
    }
}
