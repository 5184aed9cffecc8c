// A field of bytes is taken out of a message, and the rest of it left as it was.

import ProcgateV1
import Protobuf
import Testing

@Suite struct DetachedFieldTests {
    private let request = StreamStdinRequest.with {
        $0.processId = "abc"
        $0.data = Array("some input".utf8)
        $0.eof = true
        $0.position = .offset(300)
    }

    private func detach(
        _ bytes: [UInt8]
    ) throws -> (rest: StreamStdinRequest, content: [UInt8]) {
        let field = try bytes.withUnsafeBytes { try DetachedField(2, of: $0) }
        return (try StreamStdinRequest(decoding: field.rest), Array(bytes[field.content]))
    }

    @Test func theRestIsTheMessageWithoutIt() throws {
        let (rest, content) = try detach(request.encoded())
        #expect(content == request.data)
        var expected = request
        expected.data = []
        #expect(rest == expected)
    }

    @Test func ofSeveralTheLastOneCounts() throws {
        let first = StreamStdinRequest.with { $0.data = [1, 2, 3] }
        #expect(try detach(first.encoded() + request.encoded()).content == request.data)
        #expect(try detach(request.encoded() + first.encoded()).content == [1, 2, 3])
    }

    @Test func aMessageWithoutItHasNone() throws {
        #expect(try detach([]).content.isEmpty)
        // The number with another wire type is not the field.
        #expect(try detach([0x10, 0x05]).content.isEmpty)
        #expect(try detach([0x12, 0x00]).content.isEmpty)
    }

    @Test(arguments: [
        [0x12], [0x12, 0x05, 1], [0x80], [0x13], [0x17, 0], [0x12, 0xff, 0xff, 0xff, 0xff, 0x7f],
    ])
    func whatIsMalformedIsRefused(bytes: [UInt8]) {
        #expect(throws: ProtobufError.self) { try detach(bytes) }
    }
}
