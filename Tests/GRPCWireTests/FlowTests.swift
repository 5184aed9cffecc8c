// Back-pressure in both directions, and compression.

import GRPCWire
import HTTP2
import NIOCore
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(1))) struct FlowTests {
    @Test func aReaderThatDoesNotReadHoldsTheHandlerBack() async throws {
        let sent = Atomic<Int>(0)
        let endless = ServerMethod(Post.count) { call in
            let letter = Letter("", bytes: [UInt8](repeating: 1, count: 50_000))
            while true {
                try await call.send(letter)
                sent.wrappingAdd(50_000, ordering: .relaxed)
            }
        }
        try await withChannel([endless]) { channel in
            let stream = channel.serverStreaming(Post.count, Letter(""))
            var iterator = stream.makeAsyncIterator()
            _ = try await iterator.next()
            // A call on the same connection shows that the other one has come to rest.
            var before = -1
            while before != sent.load(ordering: .relaxed) {
                before = sent.load(ordering: .relaxed)
                for _ in 0..<200 {
                    _ = await status { () throws(GRPCStatus) in
                        _ = try await channel.unary(Post.echo, Letter(""))
                    }
                }
            }
            // The client's window and buffer, and the server's queue.
            #expect(before < 4_000_000)
            for _ in 0..<200 { _ = try await iterator.next() }
            #expect(sent.load(ordering: .relaxed) >= before + 5_000_000)
        }
    }

    @Test func aPeerThatNeverReadsItsSocketCostsLittle() async throws {
        let sent = Atomic<Int>(0)
        let endless = ServerMethod(Post.count) { call in
            let letter = Letter("", bytes: [UInt8](repeating: 1, count: 50_000))
            while true {
                try await call.send(letter)
                sent.wrappingAdd(50_000, ordering: .relaxed)
            }
        }
        try await withServer([endless, CallTests.echo]) { loopback in
            let greedy = try await GreedyPeer.connect(to: loopback.target)
            let channel = loopback.makeChannel()
            var before = -1
            while before <= 0 || before != sent.load(ordering: .relaxed) {
                before = sent.load(ordering: .relaxed)
                for _ in 0..<200 { _ = try await channel.unary(Post.echo, Letter("")) }
            }
            // The kernel's buffers on both sides, a piece of output, and the call's queue.
            #expect(before < 16_000_000)
            try await greedy.close()
            await channel.close()
        }
    }

    @Test func aHandlerThatDoesNotTakeHoldsTheCallerBack() async throws {
        let release = Signal<Void>()
        let slow = ServerMethod(Post.join) { call in
            await release.next()
            var count = 0
            while let letter = try await call.next(Letter.self) { count += letter.value.count }
            try await call.send(Letter("\(count)"))
        }
        try await withChannel([slow, CallTests.echo]) { channel in
            let call = channel.clientStreaming(Post.join)
            let sent = Mutex(0)
            let sending = Task {
                let letter = Letter("", bytes: [UInt8](repeating: 1, count: 50_000))
                for _ in 0..<200 {
                    try await call.send(letter)
                    sent.withLock { $0 += 50_000 }
                }
            }
            var before = -1
            while before != sent.withLock({ $0 }) {
                before = sent.withLock { $0 }
                for _ in 0..<200 { _ = try await channel.unary(Post.echo, Letter("")) }
            }
            #expect(before < 3_000_000)
            release.send(())
            try await sending.value
            let answer = try await call.response()
            #expect(answer.typeUrl == "10000000")
        }
    }

    @Test func aSourceIsSentAndItsEndIsTold() async throws {
        let method = ServerMethod(Post.count) { call in
            _ = try await call.request(Letter.self)
            try await call.stream(LetterSource(count: 1000))
            call.trailers.append("source", "ended")
        }
        try await withChannel([method]) { channel in
            let stream = channel.serverStreaming(Post.count, Letter(""))
            var received = 0
            for try await letter in stream {
                #expect(letter.value.count == 100)
                received += 1
            }
            #expect(received == 1000)
            #expect(stream.trailers?.first("source") == "ended")
        }
    }

    @Test func bothDirectionsAreCompressedWhereAsked() async throws {
        let sizes = Signal<Int>()
        var configuration = ServerConfiguration()
        configuration.observer = { sizes.send($0.bytesIn + $0.bytesOut) }
        try await withChannel([CallTests.echo], configuration: configuration) { channel in
            let letter = Letter("", bytes: [UInt8](repeating: 3, count: 100_000))
            let packed = CallOptions(
                metadata: Metadata(["procgate-compress": "gzip"]), compression: .gzip)
            let answer = try await channel.unary(Post.echo, letter, options: packed)
            #expect(answer == letter)
            #expect(await sizes.next() ?? 0 < 2000)
            let plain = try await channel.unary(Post.echo, letter)
            #expect(plain == letter)
            #expect(await sizes.next() ?? 0 > 200_000)
        }
    }

    @Test func aBombIsRefusedByTheServer() async throws {
        try await withChannel([CallTests.echo]) { channel in
            let bomb = Letter("", bytes: [UInt8](repeating: 0, count: 40_000_000))
            let thrown = await status { () throws(GRPCStatus) in
                _ = try await channel.unary(
                    Post.echo, bomb, options: CallOptions(compression: .gzip))
            }
            #expect(thrown.code == .resourceExhausted)
        }
    }

    @Test func eachMessageSaysWhetherItIsCompressed() async throws {
        let chat = ServerMethod(Post.chat) { call in
            call.compression = .gzip
            while try await call.next(Letter.self) != nil {
                let wasCompressed = call.lastMessageWasCompressed
                try await call.send(Letter("\(wasCompressed)"), compress: !wasCompressed)
            }
        }
        try await withChannel([chat]) { channel in
            let call = channel.bidirectional(Post.chat, options: CallOptions(compression: .gzip))
            var answers = call.responses.makeAsyncIterator()
            for compress in [true, false, true] {
                try await call.send(Letter("one"), compress: compress)
                #expect(try await answers.next()?.typeUrl == "\(compress)")
                #expect(call.responses.lastMessageWasCompressed == !compress)
            }
            call.halfClose()
            #expect(try await answers.next() == nil)
        }
    }

    @Test func aMessageOverTheLimitIsRefusedByEitherSide() async throws {
        var configuration = ServerConfiguration()
        configuration.limits.messageBytes = 1000
        try await withChannel([CallTests.echo], configuration: configuration) { channel in
            let large = Letter("", bytes: [UInt8](repeating: 0, count: 2000))
            let server = await status { () throws(GRPCStatus) in
                _ = try await channel.unary(Post.echo, large)
            }
            #expect(server.code == .resourceExhausted)
            let client = await status { () throws(GRPCStatus) in
                _ = try await channel.unary(
                    Post.echo, Letter("twelve bytes"), options: CallOptions(maxMessageBytes: 5))
            }
            #expect(client.code == .resourceExhausted)
        }
    }

    @Test func aMethodsOwnLimitIsLess() async throws {
        let small = ServerMethod(Post.echo) { call in
            try await call.send(try await call.request(Letter.self))
        }.taking(atMost: 1000)
        try await withChannel([small]) { channel in
            let fits = Letter("", bytes: [UInt8](repeating: 0, count: 900))
            let echoed: Letter = try await channel.unary(Post.echo, fits)
            #expect(echoed == fits)
            let large = await status { () throws(GRPCStatus) in
                _ = try await channel.unary(
                    Post.echo, Letter("", bytes: [UInt8](repeating: 0, count: 2000)))
            }
            #expect(large.code == .resourceExhausted)
        }
    }

    @Test func messagesBeyondAConnectionsRoomWaitTheirTurn() async throws {
        var configuration = ServerConfiguration()
        configuration.limits.messageBytes = 300_000
        configuration.limits.connectionMemoryBytes = 8 * 1024 * 1024
        try await withChannel([CallTests.echo], configuration: configuration) { channel in
            // There is room for six megabytes of them, and for the beginnings of the others.
            let letter = Letter("", bytes: [UInt8](repeating: 5, count: 250_000))
            try await withThrowingTaskGroup(of: Letter.self) { group in
                for _ in 0..<30 {
                    group.addTask { try await channel.unary(Post.echo, letter) }
                }
                for try await answer in group { #expect(answer == letter) }
            }
        }
    }

    @Test func aStreamWithoutRoomToGrowGoesOn() async throws {
        var configuration = ServerConfiguration()
        configuration.limits.connectionMemoryBytes = 0
        let join = ServerMethod(Post.join) { call in
            var count = 0
            while let letter = try await call.next(Letter.self) { count += letter.value.count }
            try await call.send(Letter("\(count)"))
        }
        try await withChannel([join], configuration: configuration) { channel in
            for size in [100, 40_000, 200_000] {
                let call = channel.clientStreaming(Post.join)
                let letter = Letter("", bytes: [UInt8](repeating: 1, count: size))
                for _ in 0..<20 { try await call.send(letter) }
                #expect(try await call.response().typeUrl == "\(20 * size)")
            }
        }
    }

    @Test func callsBeyondTheServersLimitWaitTheirTurn() async throws {
        var configuration = ServerConfiguration()
        configuration.http2.maxConcurrentStreams = 3
        let most = Atomic<Int>(0)
        let running = Atomic<Int>(0)
        let method = ServerMethod(Post.echo) { call in
            let now = running.wrappingAdd(1, ordering: .relaxed).newValue
            most.max(now, ordering: .relaxed)
            let letter = try await call.request(Letter.self)
            for _ in 0..<5 { await Task.yield() }
            running.wrappingSubtract(1, ordering: .relaxed)
            try await call.send(letter)
        }
        var options = GRPCChannelOptions()
        options.mostConnections = 1
        try await withChannel([method], configuration: configuration, options: options) {
            channel in
            _ = try await channel.unary(Post.echo, Letter(""))
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<100 {
                    group.addTask { _ = try await channel.unary(Post.echo, Letter("")) }
                }
                try await group.waitForAll()
            }
            #expect(most.load(ordering: .relaxed) <= 3)
        }
    }

    /// Calls that last take all the places of a connection: short ones get through beside them.
    @Test func longCallsDoNotKeepShortOnesWaiting() async throws {
        var configuration = ServerConfiguration()
        configuration.http2.maxConcurrentStreams = 2
        var options = GRPCChannelOptions()
        options.extraIdleTimeout = .milliseconds(50)
        let closed = Signal<Void>()
        configuration.connectionObserver = { event in
            if case .closed = event { closed.send(()) }
        }
        try await withServer([CallTests.echo, CallTests.chat], configuration: configuration) {
            loopback in
            let channel = loopback.makeChannel(options)
            var long: [ClientCall<Letter, Letter>] = []
            for _ in 0..<5 {
                let call = channel.bidirectional(Post.chat)
                try await call.send(Letter("here"))
                var answers = call.responses.makeAsyncIterator()
                let answer = try await answers.next()
                #expect(answer?.typeUrl == "here")
                long.append(call)
            }
            let answer = try await channel.unary(Post.echo, Letter("short"))
            #expect(answer.typeUrl == "short")
            #expect(loopback.server.openConnections == 3)
            // The first connection stays; those beside it go when they have no calls.
            for call in long { call.cancel() }
            await closed.next()
            await closed.next()
            while loopback.server.openConnections > 1 { await Task.yield() }
            _ = try await channel.unary(Post.echo, Letter("again"))
            #expect(loopback.server.openConnections == 1)
            await channel.close()
        }
    }

    @Test func connectionsAreNoMoreThanAllowed() async throws {
        var configuration = ServerConfiguration()
        configuration.http2.maxConcurrentStreams = 1
        var options = GRPCChannelOptions()
        options.mostConnections = 2
        try await withServer([CallTests.echo, CallTests.chat], configuration: configuration) {
            loopback in
            let channel = loopback.makeChannel(options)
            let long = (0..<2).map { _ in channel.bidirectional(Post.chat) }
            for call in long { try await call.send(Letter("here")) }
            for call in long {
                var answers = call.responses.makeAsyncIterator()
                _ = try await answers.next()
            }
            let late = await status { () throws(GRPCStatus) in
                _ = try await channel.unary(
                    Post.echo, Letter(""), options: CallOptions(timeout: .milliseconds(300)))
            }
            #expect(late.code == .deadlineExceeded)
            #expect(loopback.server.openConnections == 2)
            long[0].cancel()
            _ = try await channel.unary(Post.echo, Letter(""))
            await channel.close()
        }
    }
}

/// Wire-ready letters of 100 zero bytes.
private final class LetterSource: BodySource {
    private static let frame: [UInt8] =
        [0, 0, 0, 0, 102, 0x12, 100] + .init(repeating: 0, count: 100)
    private var left: [UInt8]
    private var position = 0

    init(count: Int) {
        left = (0..<count).flatMap { _ in Self.frame }
    }

    func available(limit: Int) -> BodyAvailability {
        position == left.count ? .end : .bytes(min(limit, left.count - position))
    }

    func copy(into destination: UnsafeMutableRawBufferPointer) {
        destination.copyBytes(from: left[position..<(position + destination.count)])
        position += destination.count
    }
}
