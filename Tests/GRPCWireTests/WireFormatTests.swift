// The small formats of gRPC's wire, and the framing of messages.

import NIOCore
import Testing

@testable import GRPCWire

@Suite struct WireFormatTests {
    private func parse(_ text: String) -> Int64? {
        var text = text
        return text.withUTF8 { TimeoutField.parse(UnsafeRawBufferPointer($0)) }
    }

    @Test(arguments: [
        ("1H", 3_600_000_000_000), ("2M", 120_000_000_000), ("3S", 3_000_000_000),
        ("4m", 4_000_000), ("5u", 5000), ("6n", 6), ("0n", 0), ("99999999n", 99_999_999),
        ("99999999H", Int64.max),
    ])
    func aTimeoutIsRead(text: String, nanoseconds: Int64) {
        #expect(parse(text) == nanoseconds)
    }

    @Test(arguments: ["", "1", "S", "-1S", "1.5S", "123456789S", "1s", "1 S", "+1S", "S1", "1SS"])
    func whatIsNoTimeoutIsRefused(text: String) {
        #expect(parse(text) == nil)
    }

    @Test(arguments: [
        (1, "1n"), (99_999_999, "99999999n"), (100_000_000, "100000u"),
        (3_600_000_000_000, "3600000m"), (0, "1n"), (-5, "1n"), (100_000_000_001, "100000001u"),
    ])
    func aTimeoutIsWrittenInTheFinestUnitThatFits(nanoseconds: Int64, text: String) {
        let written = TimeoutField.format(nanoseconds: nanoseconds)
        #expect(parse(written) ?? 0 >= max(nanoseconds, 1))
        #expect(written.utf8.count <= 9)
        if nanoseconds <= 99_999_999 { #expect(written == text) }
    }

    private func decode(_ text: String) -> String {
        var text = text
        return text.withUTF8 { PercentEncoding.decode(UnsafeRawBufferPointer($0)) }
    }

    @Test func aLongMessageIsCutAfterAWholeCharacter() {
        #expect(PercentEncoding.encode("abcdef", limitBytes: 4) == "abcd")
        #expect(PercentEncoding.encode("abcü", limitBytes: 9) == "abc%C3%BC")
        #expect(PercentEncoding.encode("abcü", limitBytes: 8) == "abc")
        #expect(PercentEncoding.encode("100%", limitBytes: 5) == "100")
    }

    @Test(arguments: [
        ("abc", 3, "abc"), ("abc", 2, "ab"), ("abc", 0, ""), ("", 0, ""), ("aü", 2, "a"),
        ("aü", 3, "aü"), ("😀😀", 7, "😀"), ("e\u{301}\u{301}", 4, "e\u{301}"), ("\r\n", 1, "\r"),
    ])
    func aTextIsCutBetweenScalars(text: String, bytes: Int, cut: String) {
        #expect(Array(text.cut(toBytes: bytes).utf8) == Array(cut.utf8))
    }

    @Test func gzipOfSeveralMembersIsOneMessage() throws {
        var packed = ByteBuffer()
        for byte in [1, 2, 3] as [UInt8] {
            var member = [UInt8](repeating: byte, count: 70_000).withUnsafeBytes {
                Gzip.deflate($0)
            }
            packed.writeBuffer(&member)
        }
        let plain = try Gzip.inflate(packed, limitBytes: 210_000)
        #expect(plain.readableBytes == 210_000)
        #expect(Set(plain.readableBytesView) == [1, 2, 3])
        #expect(throws: GRPCStatus.self) { _ = try Gzip.inflate(packed, limitBytes: 209_999) }
        let same = try Gzip.inflate(packed, limitBytes: .max)
        #expect(same == plain)
        packed.writeInteger(7 as UInt8)
        let trailing = packed
        #expect(throws: GRPCStatus.self) { _ = try Gzip.inflate(trailing, limitBytes: .max) }
    }

    @Test func whatWaitsIsTheSameAfterItWasCompacted() throws {
        var reader = MessageReader(limitBytes: 100_000)
        var read = ByteBuffer()
        read.writeBytes([0, 0, 0, 0x27, 0x10])
        for index in 0..<10_000 { read.writeInteger(UInt8(truncatingIfNeeded: index)) }
        while let chunk = read.readSlice(length: min(2000, max(read.readableBytes, 1))) {
            reader.append(chunk)
        }
        reader.compactAll()
        guard case .message(let message) = try reader.next() else {
            Issue.record("the message is not complete")
            return
        }
        let expected = (0..<10_000).map { UInt8(truncatingIfNeeded: $0) }
        #expect(Array(message.bytes.readableBytesView) == expected)
        #expect(reader.isEmpty)
    }

    @Test func whatIsDiscardedIsNotWaitedFor() throws {
        var reader = MessageReader(limitBytes: 100_000)
        reader.append(ByteBuffer(bytes: [0, 0, 0, 0x27, 0x10, 1, 2, 3]))
        guard case .needsMore = try reader.next() else {
            Issue.record("a message of three bytes of ten thousand")
            return
        }
        #expect(reader.pendingBytes == 10_000)
        reader.discard()
        #expect(reader.isEmpty)
        #expect(reader.pendingBytes == 0)
        #expect(reader.totalBytes == 8)
    }

    @Test func aCharacterOfAMegabyteIsCut() {
        let text = "e" + String(repeating: "\u{301}", count: 500_000)
        #expect(text.cut(toBytes: 100).utf8.count == 99)
    }

    @Test func messagesArePercentEncoded() {
        #expect(PercentEncoding.encode("plain text, 1.5!") == "plain text, 1.5!")
        #expect(PercentEncoding.encode("50% ü\n") == "50%25 %C3%BC%0A")
        #expect(
            decode("\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n")
                == "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n")
    }

    @Test(arguments: ["", "a", "%", "%%", "100%", "ä€😀", "\u{0}\u{7f}", "%41"])
    func percentEncodingComesBack(text: String) {
        #expect(decode(PercentEncoding.encode(text)) == text)
    }

    @Test(arguments: [("%", "%"), ("%4", "%4"), ("%zz", "%zz"), ("%41%", "A%"), ("a%2", "a%2")])
    func brokenEscapesStandForThemselves(text: String, meaning: String) {
        #expect(decode(text) == meaning)
    }

    @Test(arguments: 0...66)
    func base64ComesBack(count: Int) {
        let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 37) }
        let text = Base64.encode(bytes)
        #expect(!text.contains("="))
        #expect(Base64.decode(text.utf8) == bytes)
        let padded = text + String(repeating: "=", count: (4 - text.utf8.count % 4) % 4)
        #expect(Base64.decode(padded.utf8) == bytes)
    }

    @Test(arguments: ["a", "a===", "ab=", "ab==c", "a b=", "ab!=", "====a"])
    func whatIsNotBase64IsRefused(text: String) {
        #expect(Base64.decode(text.utf8) == nil)
    }

    @Test func joinedBinaryValuesAreSeveral() {
        var metadata = Metadata()
        func receive(_ name: StaticString, _ value: StaticString) {
            metadata.appendReceived(
                name: UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount),
                value: UnsafeRawBufferPointer(
                    start: value.utf8Start, count: value.utf8CodeUnitCount))
        }
        receive("x-bin", "AQ==,AgM")
        receive("x", "a,b")
        receive("x", "c")
        #expect(metadata.allBytes("x-bin") == [[1], [2, 3]])
        #expect(metadata.all("x") == ["a,b", "c"])
    }

    // MARK: Framing

    private func frame(_ bytes: [UInt8], flag: UInt8 = 0) -> [UInt8] {
        [flag] + withUnsafeBytes(of: UInt32(bytes.count).bigEndian) { Array($0) } + bytes
    }

    @Test(arguments: 1...40)
    func messagesSurviveAnyCuts(seed: UInt64) throws {
        var random = SeededRandom(state: seed)
        let messages = (0..<20).map { _ in
            let count = [0, 1, 4, 5, 6, 100, 3000, 70_000].randomElement(using: &random) ?? 0
            return (0..<count).map { UInt8(truncatingIfNeeded: $0) }
        }
        var rest = messages.flatMap { frame($0) }[...]
        let total = rest.count
        var reader = MessageReader(limitBytes: 100_000)
        var read: [[UInt8]] = []
        var credited = 0
        while !rest.isEmpty {
            let count = Int.random(in: 1...20_000, using: &random)
            reader.append(ByteBuffer(bytes: rest.prefix(count)))
            rest = rest.dropFirst(count)
            guard Bool.random(using: &random) || rest.isEmpty else { continue }
            while case .message(let message) = try reader.next() {
                read.append(Array(message.bytes.readableBytesView))
            }
            credited += reader.credit(isWaiting: Bool.random(using: &random))
            reader.compact()
        }
        credited += reader.credit(isWaiting: false)
        #expect(read == messages)
        #expect(credited == total)
        #expect(reader.isEmpty)
    }

    @Test func aMessageOverTheLimitIsRefusedByItsLength() {
        var reader = MessageReader(limitBytes: 10)
        reader.append(ByteBuffer(bytes: [0, 0xff, 0xff, 0xff, 0xff]))
        #expect(throws: GRPCStatus.self) { _ = try reader.next() }
    }

    @Test func bytesAreGivenBackWhenTheirMessageIsTaken() throws {
        var reader = MessageReader(limitBytes: 1000)
        reader.append(ByteBuffer(bytes: frame([1, 2, 3]) + frame([4]) + [0, 0]))
        #expect(reader.credit(isWaiting: false) == 0)
        _ = try reader.next()
        #expect(reader.credit(isWaiting: false) == 8)
        _ = try reader.next()
        #expect(reader.credit(isWaiting: false) == 6)
        #expect(reader.credit(isWaiting: true) == 2)
        #expect(!reader.isEmpty)
    }

    // MARK: Compression

    @Test(arguments: [0, 1, 100, 100_000, 3_000_000])
    func gzipComesBack(count: Int) throws {
        let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* $0) }
        let packed = bytes.withUnsafeBytes { Gzip.deflate($0) }
        let plain = try Gzip.inflate(packed, limitBytes: 3_000_000)
        #expect(Array(plain.readableBytesView) == bytes)
    }

    @Test func aBombStopsAtTheLimit() throws {
        let bomb = [UInt8](repeating: 0, count: 50_000_000).withUnsafeBytes { Gzip.deflate($0) }
        #expect(bomb.readableBytes < 60_000)
        let refused = #expect(throws: GRPCStatus.self) {
            _ = try Gzip.inflate(bomb, limitBytes: 1_000_000)
        }
        #expect(refused?.code == .resourceExhausted)
    }

    @Test func aDamagedOrCutMessageIsRefused() throws {
        let packed = [UInt8](repeating: 7, count: 1000).withUnsafeBytes { Gzip.deflate($0) }
        var cut = packed
        cut.moveWriterIndex(to: packed.writerIndex - 3)
        #expect(throws: GRPCStatus.self) { _ = try Gzip.inflate(cut, limitBytes: 10_000) }
        let damaged = ByteBuffer(bytes: [1, 2, 3, 4])
        #expect(throws: GRPCStatus.self) { _ = try Gzip.inflate(damaged, limitBytes: 10_000) }
        #expect(throws: GRPCStatus.self) { _ = try Gzip.inflate(ByteBuffer(), limitBytes: 10) }
    }

    // MARK: Targets

    @Test func targetsAreRead() {
        #expect(GRPCTarget("http://127.0.0.1:7070") == .http(host: "127.0.0.1", port: 7070))
        #expect(GRPCTarget("https://example.org/") == .https(host: "example.org", port: 443))
        #expect(GRPCTarget("[::1]:80") == .http(host: "::1", port: 80))
        #expect(GRPCTarget("unix:/run/x.sock") == .unix(path: "/run/x.sock"))
        #expect(GRPCTarget("unix:///run/x.sock") == .unix(path: "/run/x.sock"))
        #expect(GRPCTarget("localhost:1") == .http(host: "localhost", port: 1))
        for wrong in ["", "ftp://x", "host:0", "host:x", "::1:80", "unix:relative", "a/b"] {
            #expect(GRPCTarget(wrong) == nil, "\(wrong)")
        }
    }
}

struct SeededRandom: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}
