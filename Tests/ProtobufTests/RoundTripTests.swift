// What is encoded is decoded to the same value.

import ProcgateV1
import Protobuf
import Testing

@Suite struct RoundTripTests {
    @Test(arguments: 0..<200) func randomMessagesSurvive(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        try expectSurvives(random.scalars())
        try expectSurvives(random.repeated())
        try expectSurvives(random.maps())
        try expectSurvives(random.nested())
        try expectSurvives(random.choice())
        try expectSurvives(random.tree())
    }

    @Test func anEmptyMessageHasNoBytes() throws {
        #expect(Scalars().encoded().isEmpty)
        #expect(try Scalars(decoding: []) == Scalars())
        #expect(KeepAlive().withEncoded { $0.count } == 0)
        try expectSurvives(ProcessEvent.with { $0.event = .keepAlive(KeepAlive()) })
    }

    @Test(arguments: [-1, 4, 99, Int32.min, .max]) func unknownEnumValuesAreKept(
        number: Int32
    ) throws {
        var message = Scalars()
        message.colour = Colour(rawValue: number)
        #expect(message.colour == .unrecognized(number))
        let decoded = try Scalars(decoding: message.encoded())
        #expect(decoded.colour.rawValue == number)
    }

    @Test func aNaNKeepsItsBits() throws {
        var message = Scalars()
        message.doubleValue = Double(nan: 0x1234, signaling: false)
        let decoded = try Scalars(decoding: message.encoded())
        #expect(decoded.doubleValue.bitPattern == message.doubleValue.bitPattern)
    }

    @Test func negativeZeroIsNoDefault() throws {
        var message = Scalars()
        message.doubleValue = -0.0
        message.floatValue = -0.0
        let decoded = try Scalars(decoding: message.encoded())
        #expect(decoded.doubleValue.sign == .minus)
        #expect(decoded.floatValue.sign == .minus)
    }

    @Test(arguments: [0, 1, 127, 128, 1023, 1024, 4095, 4096, 65_535, 65_536, 65_543, 1 << 20])
    func bytesOfEverySizeSurvive(count: Int) throws {
        let data = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        try expectSurvives(ExecRequest.with { $0.stdinData = data })
        try expectSurvives(
            WaitResponse.with { response in
                response.result = .with {
                    $0.stdoutData = data
                    $0.stderrData = data
                }
            })
        try expectSurvives(
            ExecRequest.with { $0.requestKey = String(repeating: "ü", count: count / 2) })
        try expectSurvives(Repeated.with { $0.byteStrings = [data, [], data] })
    }

    @Test func anEncoderWritesItsBytesInPlace() {
        let message = GetProcessRequest.with { $0.processId = "p-1" }
        var room = [UInt8](repeating: 0xee, count: 16)
        var count = 0
        message.withEncoder { encoder in
            count = encoder.byteCount
            room.withUnsafeMutableBytes {
                encoder.write(into: UnsafeMutableRawBufferPointer(rebasing: $0[5...]))
            }
        }
        #expect(Array(room[5..<5 + count]) == message.encoded())
        #expect(room[..<5].allSatisfy { $0 == 0xee })
        #expect(room[(5 + count)...].allSatisfy { $0 == 0xee })
    }

    @Test func anErrorOfTheBodyComesThrough() {
        struct Refusal: Error {}
        #expect(throws: Refusal.self) { try Scalars().withEncoded { _ in throw Refusal() } }
    }

    @Test func recursiveValuesAreCopiedAsValues() {
        let original = Tree.with { $0.left = .with { $0.label = "l" } }
        var copy = original
        copy.left?.label = "changed"
        #expect(original.left?.label == "l")
        #expect(copy.left?.label == "changed")
        copy.left = nil
        #expect(copy == Tree())
    }

    private func expectSurvives<Message: ProtobufMessage>(_ message: Message) throws {
        let bytes = message.encoded()
        #expect(try Message(decoding: bytes) == message)
        #expect(message.withEncoded { $0.count } == bytes.count)
    }
}
