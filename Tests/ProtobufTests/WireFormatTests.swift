// Which bytes are taken, and which are refused.

import ProcgateV1
import Protobuf
import Testing

@Suite struct AcceptedBytesTests {
    @Test func unknownFieldsAreIgnored() throws {
        let bytes = wire(
            field(1000, varint: 5), tag(1001, .fixed64), [1, 2, 3, 4, 5, 6, 7, 8],
            field(1002, [0xff, 0xff]), tag(1003, .fixed32), [1, 2, 3, 4],
            field(14, [UInt8]("kept".utf8)))
        let message = try Scalars(decoding: bytes)
        #expect(message == .with { $0.stringValue = "kept" })
        let golden = try Older(decoding: Golden.scalars)
        #expect(golden.encoded() == Older.with { $0.doubleValue = -1.5 }.encoded())
    }

    @Test func paddedVarintsAreTaken() throws {
        let padded = wire(
            tag(3, .varint), varint(5, padTo: 10), varint(14 << 3 | 2, padTo: 5),
            varint(3, padTo: 5), [UInt8]("abc".utf8), tag(13, .varint), varint(1, padTo: 10))
        let message = try Scalars(decoding: padded)
        #expect(
            message
                == .with {
                    $0.int32Value = 5
                    $0.stringValue = "abc"
                    $0.boolValue = true
                })
    }

    @Test func wideVarintsAreCutToTheirField() throws {
        let bytes = wire(
            field(3, varint: 0x1_0000_0007), field(5, varint: 0xffff_ffff_0000_0009),
            field(13, varint: 1 << 63), field(16, varint: .max))
        let message = try Scalars(decoding: bytes)
        #expect(message.int32Value == 7)
        #expect(message.uint32Value == 9)
        #expect(message.boolValue)
        #expect(message.colour.rawValue == -1)
    }

    @Test func theLastOfSeveralValuesCounts() throws {
        let bytes = wire(field(3, varint: 1), field(14, [97]), field(3, varint: 2), field(14, [98]))
        let message = try Scalars(decoding: bytes)
        #expect(message.int32Value == 2)
        #expect(message.stringValue == "b")
    }

    @Test func theLastMemberOfAOneofCounts() throws {
        let bytes = wire(
            field(2, [97]), field(7, field(1, [98])), field(1, varint: 3),
            field(9, field(3, varint: 1)), field(3, [1, 2]), field(4, varint: 1))
        #expect(try Choice(decoding: bytes).event == .flag(true))
        let again = wire(field(4, varint: 1), field(3, [1, 2]), field(7, field(1, [98])))
        #expect(try Choice(decoding: again).event == .message(.with { $0.text = "b" }))
    }

    @Test func aMessageInSeveralPiecesIsMerged() throws {
        let bytes = wire(
            field(1, field(1, [97])), field(1, wire(field(2, [98]), field(3, [99]))),
            field(1, field(2, [100])))
        let message = try ExecRequest(decoding: bytes)
        #expect(message.process?.command == "a")
        #expect(message.process?.args == ["b", "d"])
        #expect(message.process?.cwd == "c")
    }

    @Test func packedAndUnpackedAreTakenForEachOther() throws {
        let unpacked = wire(field(3, varint: 1), field(3, varint: 2), field(13, varint: 1))
        let message = try Repeated(decoding: unpacked)
        #expect(message.int32s == [1, 2])
        #expect(message.bools == [true])
        let packed = wire(field(2, [1, 2]), field(4, [1, 0, 0x81, 0]), field(2, varint: 3))
        let other = try Unpacked(decoding: packed)
        #expect(other.int32s == [1, 2, 3])
        #expect(other.bools == [true, false, true])
    }

    @Test func anEntryWithoutKeyOrValueHasDefaults() throws {
        let bytes = wire(field(1, []), field(11, field(1, varint: 1)), field(2, field(2, [7])))
        let message = try Maps(decoding: bytes)
        #expect(message.byInt32 == [0: ""])
        #expect(message.byBool == [true: Nested()])
        #expect(message.byInt64 == [0: [7]])
    }

    @Test func theLastEntryOfAKeyCounts() throws {
        let entry = { (value: UInt8) in field(1, wire(field(1, varint: 5), field(2, [value]))) }
        #expect(try Maps(decoding: entry(97) + entry(98)).byInt32 == [5: "b"])
    }
}

@Suite struct RefusedBytesTests {
    @Test func everyPrefixOfAMessageIsDecodedOrRefused() throws {
        let whole = Golden.execRequest
        var refused = 0
        for count in 0..<whole.count {
            do throws(ProtobufError) {
                _ = try ExecRequest(decoding: Array(whole[..<count]))
            } catch {
                #expect(error == .malformed)
                refused += 1
            }
        }
        #expect(refused > whole.count / 2)
    }

    @Test(arguments: [
        // Cut off: in a tag, after a tag, in a varint, in fixed numbers, in a length.
        [0x80], [0x08], [0x18, 0x80], [0x51, 1, 2, 3, 4, 5, 6, 7], [0x4d, 1, 2, 3], [0x72],
        [0x72, 0x80],
        // A length past the end, and the largest there is.
        [0x72, 0x05, 97], [0x72, 0xff, 0xff, 0xff, 0xff, 0x0f], [0x72, 0xff, 0xff, 0xff, 0xff, 7],
        [0x72] + [UInt8](repeating: 0xff, count: 9) + [1],
        // A varint of eleven bytes, a tag of six.
        [0x18] + [UInt8](repeating: 0x80, count: 10) + [0],
        [0x98, 0x80, 0x80, 0x80, 0x80, 0x00, 1],
        // Field 0, and wire types that do not exist.
        [0x00, 0x00], [0x02, 0x00], [0x0e], [0x0f],
        // Groups without their end, without their start, with another's end.
        [0x1b], [0xbb, 0x3e, 0x08], [0x0c], [0xbb, 0x3e, 0x1c], [0x1b, 0x13, 0x1c, 0x14],
    ])
    func malformedBytesAreRefused(bytes: [UInt8]) {
        #expect(throws: ProtobufError.malformed) { try Scalars(decoding: bytes) }
    }

    @Test(arguments: 1...16) func anotherWireTypeIsUnknown(number: UInt64) throws {
        let right: WireType
        switch number {
        case 1, 10, 12: right = .fixed64
        case 2, 9, 11: right = .fixed32
        case 14, 15: right = .lengthDelimited
        default: right = .varint
        }
        let contents: [WireType: [UInt8]] = [
            .varint: [1], .fixed64: [0, 0, 0, 0, 0, 0, 0, 0], .lengthDelimited: [1, 97],
            .fixed32: [0, 0, 0, 0],
        ]
        for (type, content) in contents {
            let bytes = wire(tag(number, type), content)
            let kept = wire(bytes, number == 15 ? field(14, [97]) : field(15, [97]))
            let message = try Scalars(decoding: kept)
            if type != right {
                let alone = try Scalars(decoding: Array(kept.dropFirst(bytes.count)))
                #expect(message == alone)
            }
        }
    }

    @Test func groupsAreUnknown() throws {
        let nested = wire(
            tag(1000, .startGroup), field(1, [1, 2, 3]), tag(3, .startGroup), tag(3, .endGroup),
            tag(1000, .endGroup))
        let bytes = wire(field(3, varint: 7), nested, field(14, [97]))
        #expect(
            try Scalars(decoding: bytes)
                == .with {
                    $0.int32Value = 7
                    $0.stringValue = "a"
                })
        // Within a message, and one whose length changes the length of another; and a tree.
        let spec = wire(field(1, [99]), nested, field(2, [UInt8](repeating: 97, count: 200)))
        let request = try ExecRequest(decoding: wire(field(1, spec), field(3, [107])))
        #expect(request.process?.command == "c")
        #expect(request.process?.args == [String(repeating: "a", count: 200)])
        #expect(request.requestKey == "k")
        let deep = field(1, field(1, nested))
        #expect(try Tree(decoding: deep) == Tree(decoding: field(1, field(1, []))))
        var endless: [UInt8] = []
        for _ in 0..<1000 { endless += tag(5, .startGroup) }
        #expect(throws: ProtobufError.tooDeep) { try Scalars(decoding: endless) }
    }

    @Test func aListOfTheWrongWireTypeIsRefused() throws {
        #expect(try Repeated(decoding: field(14, varint: 1)) == Repeated())
        #expect(try Repeated(decoding: field(17, varint: 1)) == Repeated())
        #expect(throws: ProtobufError.malformed) { try Repeated(decoding: field(1, [1, 2, 3])) }
        #expect(throws: ProtobufError.malformed) { try Repeated(decoding: field(9, [1, 2, 3])) }
        #expect(throws: ProtobufError.malformed) { try Repeated(decoding: field(3, [0x80])) }
        #expect(throws: ProtobufError.malformed) {
            try Repeated(decoding: field(3, [UInt8](repeating: 0x80, count: 11)))
        }
    }

    @Test(arguments: [
        [0xff], [0x80], [0xc3], [0xc3, 0x28], [0xc0, 0x80], [0xe0, 0x80, 0x80],
        [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xf8, 0x88, 0x80, 0x80, 0x80],
        [97, 0xe2, 0x82],
    ])
    func stringsThatAreNotUTF8AreRefused(bytes: [UInt8]) throws {
        #expect(throws: ProtobufError.invalidUTF8) { try Scalars(decoding: field(14, bytes)) }
        #expect(throws: ProtobufError.invalidUTF8) { try Repeated(decoding: field(14, bytes)) }
        #expect(throws: ProtobufError.invalidUTF8) { try Choice(decoding: field(2, bytes)) }
        #expect(throws: ProtobufError.invalidUTF8) {
            try Maps(decoding: field(12, field(1, bytes)))
        }
        #expect(throws: ProtobufError.invalidUTF8) {
            try ExecRequest(decoding: field(1, field(1, bytes)))
        }
        #expect(try Scalars(decoding: field(15, bytes)).bytesValue == bytes)
    }
}
