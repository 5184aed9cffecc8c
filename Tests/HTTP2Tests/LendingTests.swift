// Bodies that are sent from where they lie.

import HTTP2
import NIOCore
import Testing

@Suite struct LendingTests {
    /// What one write produces, in order, and how much of it was lent.
    private func piece(of end: End, limit: Int = 64 * 1024) throws -> (bytes: [UInt8], lent: Int) {
        var buffer = ByteBuffer()
        var lent: [LentBytes] = []
        _ = try end.session.write(into: &buffer, lending: &lent, limit: limit)
        end.note()
        let own = [UInt8](buffer.readableBytesView)
        var bytes: [UInt8] = []
        var start = 0
        for loan in lent {
            bytes += own[start..<loan.position] + loan.bytes
            start = loan.position
        }
        return (bytes + own[start...], lent.reduce(0) { $0 + $1.bytes.count })
    }

    private func streaming(_ source: Memory) throws -> Pair {
        let pair = try Pair()
        let request = try #require(pair.client.session.request(.request, context: nil))
        request.end(trailers: nil)
        try pair.exchange()
        let stream = try #require(pair.server.streams[1])
        stream.respond(.response)
        stream.attach(source) { .of(["status": "0"]) }
        return pair
    }

    @Test(arguments: [1, 4095, 4096, 16_384, 16_385, 1_000_000])
    func whatIsLentArrivesAsItWas(count: Int) throws {
        let source = Memory(count)
        let pair = try streaming(source)
        var lent = 0
        while true {
            let piece = try piece(of: pair.server)
            if piece.bytes.isEmpty { break }
            lent += piece.lent
            try pair.client.receive(piece.bytes)
            pair.client.session.forEachStream { $0.consume(1 << 20) }
            try pair.server.receive(try pair.client.output())
        }
        #expect(pair.client.body(of: 1) == source.bytes)
        #expect(pair.client.told.contains(.trailers(1, ["status=0"])))
        // A small frame is as well copied.
        #expect(count < 4096 ? lent == 0 : lent > count / 2)
    }

    /// The stream lets go of a source that is at its end while the bytes are still to be written.
    @Test func whatIsLentOutlivesItsStream() throws {
        weak var source: Memory?
        var buffer = ByteBuffer()
        var lent: [LentBytes] = []
        let pair: Pair
        do {
            let memory = Memory(10_000)
            source = memory
            pair = try streaming(memory)
        }
        _ = try pair.server.session.write(into: &buffer, lending: &lent, limit: 64 * 1024)
        pair.server.note()
        #expect(pair.server.told.contains(.bodySent(1)))
        #expect(lent.flatMap { Array($0.bytes) } == source?.bytes)
        lent.removeAll()
        #expect(source == nil)
    }

    @Test func theStatusLeavesWithTheLastBytes() throws {
        let pair = try streaming(Memory(100))
        try pair.client.receive(try piece(of: pair.server).bytes)
        #expect(pair.client.body(of: 1).count == 100)
        #expect(pair.client.told.contains(.trailers(1, ["status=0"])))
        #expect(pair.server.told.contains(.bodySent(1)))
    }

    @Test func nothingIsLentToAWriterThatCannotUseIt() throws {
        let source = Memory(100_000)
        let pair = try streaming(source)
        try pair.exchange()
        #expect(pair.client.body(of: 1).prefix(60_000) == source.bytes.prefix(60_000))
        #expect(source.loans == 0)
    }
}

/// Bytes that lie in memory.
private final class Memory: BodySource {
    let bytes: [UInt8]
    private(set) var loans = 0
    private let storage: UnsafeMutableRawBufferPointer
    private var position = 0

    init(_ count: Int) {
        bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
        storage = .allocate(byteCount: count, alignment: 1)
        storage.copyBytes(from: bytes)
    }

    deinit { storage.deallocate() }

    func available(limit: Int) -> BodyAvailability {
        position == storage.count ? .end : .bytes(min(limit, storage.count - position))
    }

    private func take(_ count: Int) -> UnsafeRawBufferPointer {
        defer { position += count }
        return UnsafeRawBufferPointer(rebasing: storage[position..<position + count])
    }

    func copy(into destination: UnsafeMutableRawBufferPointer) {
        destination.copyMemory(from: take(destination.count))
    }

    func lend(_ count: Int) -> UnsafeRawBufferPointer? {
        loans += 1
        return take(count)
    }
}
