// How an answer ends where the peer's window is closed, and where it is given up.

import HTTP2
import NIOCore
import Testing

@Suite struct AnswerEndTests {
    /// A request that was answered with a body of `body` bytes, read as far as `window` goes.
    private func answered(body: Int, window: Int) throws -> (pair: Pair, stream: HTTP2Stream) {
        var narrow = HTTP2Configuration()
        narrow.streamWindowBytes = window
        let pair = try Pair(client: narrow)
        let request = try #require(pair.client.session.request(.request, context: nil))
        request.end(trailers: nil)
        try pair.exchange()
        let stream = try #require(pair.server.streams[1])
        stream.respond(.response)
        if body > 0 { stream.enqueue(ByteBuffer(repeating: 7, count: body)) }
        try pair.exchange()
        #expect(pair.client.body(of: 1).count == min(body, window))
        return (pair, stream)
    }

    @Test(arguments: [0, 1, 100])
    func trailersNeedNoWindow(window: Int) throws {
        let (pair, stream) = try answered(body: window, window: window)
        stream.end(trailers: .of(["status": "0"]))
        try pair.exchange()
        #expect(pair.client.told.contains(.trailers(1, ["status=0"])))
        #expect(stream.isClosed)
        #expect(pair.server.session.openStreams == 0)
    }

    @Test func whatHasNotBegunIsDropped() throws {
        let (pair, stream) = try answered(body: 200, window: 100)
        stream.discardQueue()
        stream.end(trailers: .of(["status": "4"]))
        try pair.exchange()
        #expect(pair.client.body(of: 1).count == 100)
        #expect(pair.client.told.contains(.trailers(1, ["status=4"])))
    }

    @Test func whatIsKeptIsSentBeforeTheTrailers() throws {
        let (pair, stream) = try answered(body: 20_000, window: 100)
        stream.enqueue(ByteBuffer(repeating: 8, count: 20_000))
        stream.discardQueue(keeping: 50)
        #expect(stream.queuedBytes == 50)
        stream.end(trailers: .of(["status": "4"]))
        try pair.exchange()
        #expect(!stream.isClosed)
        pair.client.session.forEachStream { $0.consume(100) }
        try pair.exchange()
        #expect(pair.client.body(of: 1) == [UInt8](repeating: 7, count: 150))
        #expect(pair.client.told.contains(.trailers(1, ["status=4"])))
        #expect(stream.isClosed)
    }

    @Test func theRestOfASourcesUnitIsSentBeforeTheTrailers() throws {
        let (pair, stream) = try answered(body: 0, window: 100)
        stream.attach(Units())
        try pair.exchange()
        #expect(pair.client.body(of: 1).count == 100)
        stream.discardQueue()
        #expect(stream.queuedBytes == 20)
        stream.end(trailers: .of(["status": "4"]))
        pair.client.session.forEachStream { $0.consume(100) }
        try pair.exchange()
        #expect(pair.client.body(of: 1).count == 120)
        #expect(pair.client.told.contains(.trailers(1, ["status=4"])))
    }
}

/// Units of 60 bytes without end.
private final class Units: BodySource {
    private var position = 0

    func available(limit: Int) -> BodyAvailability { .bytes(min(limit, 60 - position)) }

    func copy(into destination: UnsafeMutableRawBufferPointer) {
        destination.initializeMemory(as: UInt8.self, repeating: 1)
        position = (position + destination.count) % 60
    }

    func rest() -> ByteBuffer {
        ByteBuffer(repeating: 1, count: position == 0 ? 0 : 60 - position)
    }
}
