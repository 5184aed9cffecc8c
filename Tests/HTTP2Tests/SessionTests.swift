// Dialogues of two sessions, and of one with bytes that another implementation wrote.

import HTTP2
import NIOCore
import Testing

@Suite struct SessionTests {
    @Test func aRequestAndItsAnswerPassThrough() throws {
        let pair = try Pair()
        let stream = try #require(pair.client.session.request(.request, context: nil))
        stream.enqueue(ByteBuffer(string: "question"))
        stream.end(trailers: nil)
        try pair.exchange()
        #expect(
            pair.server.told == [
                .headers(
                    1,
                    [
                        ":method=POST", ":scheme=http", ":path=/a", ":authority=localhost",
                    ]),
                .data(1, Array("question".utf8)), .end(1),
            ])
        let served = try #require(pair.server.streams[1])
        served.respond(.response)
        served.enqueue(ByteBuffer(string: "answer"))
        served.end(trailers: .of(["status": "0"]))
        try pair.exchange()
        #expect(
            pair.client.told == [
                .headers(1, [":status=200"]), .data(1, Array("answer".utf8)),
                .trailers(1, ["status=0"]), .end(1), .closed(1, .noError),
            ])
        #expect(pair.server.session.openStreams == 0)
        #expect(pair.client.session.openStreams == 0)
    }

    @Test func aForeignRequestIsRead() throws {
        var configuration = HTTP2Configuration()
        configuration.volatileField = "grpc-timeout"
        let server = End(.server, configuration)
        try server.receive(GoldenFrames.plainRequest)
        #expect(
            server.told.suffix(3) == [
                .headers(
                    1,
                    [
                        ":method=POST", ":scheme=http", ":path=/test.Post/Echo",
                        ":authority=localhost", "content-type=application/grpc", "te=trailers",
                        "x-note=a value that Huffman coding makes shorter",
                    ]),
                .data(1, [0, 0, 0, 0, 5] + Array("hello".utf8)), .end(1),
            ])
        let timeout = server.streams[1]?.volatileValue?.withBytes { $0.map(Array.init) } ?? nil
        #expect(timeout == Array("1500m".utf8))
    }

    @Test func aHeaderBlockInPiecesIsOne() throws {
        let server = End(.server)
        try server.receive(GoldenFrames.cutHeaders)
        #expect(server.streams[1]?.headers?.lines.count == 8)
        #expect(server.body(of: 1) == [0, 0, 0, 0, 5] + Array("hello".utf8))
        #expect(server.told.last == .end(1))
    }

    @Test func equalHeaderBlocksAreShared() throws {
        let server = End(.server)
        try server.receive(GoldenFrames.repeatedRequests)
        let first = try #require(server.streams[1]?.headers)
        #expect(server.streams[3]?.headers === first)
        #expect(server.streams[5]?.headers === first)
    }

    @Test func aForeignAnswerIsRead() throws {
        let client = End(.client)
        let stream = try #require(client.session.request(.request, context: nil))
        stream.end(trailers: nil)
        _ = try client.output()
        try client.receive(GoldenFrames.answer)
        #expect(client.body(of: 1) == [0, 0, 0, 0, 5] + Array("hello".utf8))
        #expect(client.told.contains(.trailers(1, ["grpc-status=0", "x-trailer=last"])))
        #expect(client.told.last == .closed(1, .noError))
    }

    @Test(arguments: 1...12)
    func bytesMayComeInAnyPieces(seed: UInt64) throws {
        var random = SplitMix(state: seed)
        for golden in [GoldenFrames.plainRequest, GoldenFrames.cutHeaders] {
            let whole = End(.server)
            try whole.receive(golden)
            let cut = End(.server)
            var rest = golden[...]
            while !rest.isEmpty {
                let count = Int.random(in: 1...min(rest.count, 40), using: &random)
                try cut.receive(Array(rest.prefix(count)))
                rest = rest.dropFirst(count)
            }
            #expect(cut.body(of: 1) == whole.body(of: 1))
            #expect(cut.streams[1]?.headers?.lines == whole.streams[1]?.headers?.lines)
            #expect(cut.told.last == whole.told.last)
        }
    }

    @Test func whatIsNotHTTP2IsRefused() throws {
        let server = End(.server)
        #expect(throws: HTTP2Error.badPreface) {
            try server.receive(Array("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".utf8))
        }
    }

    @Test func aBodyIsHeldBackByThePeersWindow() throws {
        var narrow = HTTP2Configuration()
        narrow.streamWindowBytes = 100_000
        let pair = try Pair(server: narrow)
        let stream = try #require(pair.client.session.request(.request, context: nil))
        stream.enqueue(ByteBuffer(repeating: 7, count: 300_000))
        stream.end(trailers: nil)
        try pair.exchange()
        #expect(pair.server.body(of: 1).count == 100_000)
        let served = try #require(pair.server.streams[1])
        served.consume(100_000)
        try pair.exchange()
        #expect(pair.server.body(of: 1).count == 200_000)
        served.consume(100_000)
        try pair.exchange()
        #expect(pair.server.body(of: 1).count == 300_000)
        #expect(pair.server.told.last == .end(1))
    }

    @Test func streamsThatNobodyReadsDoNotStopOthers() throws {
        let pair = try Pair()
        let windowBytes = HTTP2Configuration().streamWindowBytes
        for _ in 0..<8 {
            let stream = try #require(pair.client.session.request(.request, context: nil))
            stream.enqueue(ByteBuffer(repeating: 7, count: windowBytes * 2))
            try pair.exchange()
            #expect(pair.server.body(of: stream.id).count == windowBytes)
        }
        let last = try #require(pair.client.session.request(.request, context: nil))
        last.enqueue(ByteBuffer(string: "question"))
        last.end(trailers: nil)
        try pair.exchange()
        #expect(pair.server.told.last == .end(last.id))
    }

    @Test func anAnswerWhoseFieldsCannotBeSentIsReset() throws {
        let pair = try Pair()
        let stream = try #require(pair.client.session.request(.request, context: nil))
        stream.end(trailers: nil)
        try pair.exchange()
        let served = try #require(pair.server.streams[1])
        served.respondOnly(
            .of([":status": "200", "x-large": String(repeating: "x", count: 100_000)]))
        try pair.exchange()
        #expect(pair.client.told.last == .closed(1, .internalError))
        #expect(pair.server.session.openStreams == 0)
    }

    @Test func aSourceIsPulledAndWoken() throws {
        let pair = try Pair()
        let stream = try #require(pair.client.session.request(.request, context: nil))
        stream.end(trailers: nil)
        try pair.exchange()
        let served = try #require(pair.server.streams[1])
        let source = Tap()
        served.respond(.response)
        served.attach(source)
        try pair.exchange()
        #expect(pair.client.body(of: 1).isEmpty)
        source.offered = 150_000
        served.wake()
        try pair.exchange()
        #expect(pair.client.body(of: 1).count == 150_000)
        source.isAtEnd = true
        served.wake()
        try pair.exchange()
        #expect(pair.server.told.contains(.bodySent(1)))
        served.end(trailers: .of(["status": "0"]))
        try pair.exchange()
        #expect(pair.client.told.contains(.trailers(1, ["status=0"])))
    }

    @Test func outputComesInPieces() throws {
        let pair = try Pair()
        let stream = try #require(pair.client.session.request(.request, context: nil))
        stream.enqueue(ByteBuffer(repeating: 1, count: 900_000))
        var pieces: [Int] = []
        var more = true
        while more {
            var piece = ByteBuffer()
            more = try pair.client.session.write(into: &piece, limit: 64 * 1024)
            pieces.append(piece.readableBytes)
        }
        #expect(pieces.max() ?? 0 <= 64 * 1024 + 16 * 1024 + 9)
        #expect(pieces.reduce(0, +) > 900_000)
    }

    @Test func anEarlyAnswerStopsTheCaller() throws {
        let pair = try Pair()
        let stream = try #require(pair.client.session.request(.request, context: nil))
        stream.enqueue(ByteBuffer(repeating: 1, count: 10))
        try pair.exchange()
        let served = try #require(pair.server.streams[1])
        served.respondOnly(.of([":status": "200", "grpc-status": "3"]))
        try pair.exchange()
        #expect(pair.client.told.contains(.end(1)))
        #expect(pair.client.told.last == .closed(1, .noError))
    }

    @Test func aClosedSessionLosesItsStreams() throws {
        let pair = try Pair()
        _ = try #require(pair.client.session.request(.request, context: nil))
        try pair.exchange()
        pair.server.session.close()
        pair.server.note()
        #expect(pair.server.told.last == .closed(1, nil))
        #expect(pair.server.session.isFinished)
    }

    @Test func streamsAboveAGoAwayAreRefused() throws {
        let pair = try Pair()
        let first = try #require(pair.client.session.request(.request, context: nil))
        try pair.exchange()
        let late = try #require(pair.client.session.request(.request, context: nil))
        let unseen = try pair.client.output()
        #expect(!unseen.isEmpty)
        pair.server.session.goAway(.noError)
        try pair.client.receive(try pair.server.output())
        #expect(pair.client.told.contains(.goAway(first.id, .noError)))
        #expect(pair.client.told.contains(.closed(late.id, .refusedStream)))
        #expect(!first.isClosed)
    }

    @Test func aPingIsAnswered() throws {
        let pair = try Pair()
        pair.server.session.ping(42)
        try pair.exchange()
        #expect(pair.server.told == [.pong(42)])
    }
}

/// A source that offers as many zero bytes as it is told to.
private final class Tap: BodySource {
    var offered = 0
    var isAtEnd = false

    func available(limit: Int) -> BodyAvailability {
        if offered > 0 { return .bytes(min(limit, offered)) }
        return isAtEnd ? .end : .later
    }

    func copy(into destination: UnsafeMutableRawBufferPointer) {
        destination.initializeMemory(as: UInt8.self, repeating: 0)
        offered -= destination.count
    }
}

struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}
