// How calls end other than well: statuses, deadlines, cancellation, connections that go.

import GRPCWire
import NIOCore
import NIOPosix
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(1))) struct EndingTests {
    /// A handler that waits until it is cancelled, and tells why.
    private func waiting(_ causes: Signal<CancellationCause>) -> ServerMethod {
        ServerMethod(Post.echo) { call in
            call.onCancellation { causes.send($0) }
            _ = try await call.request(Letter.self)
            try await Task.sleep(for: .seconds(3600))
        }
    }

    @Test func aStatusArrivesAsItWasThrown() async throws {
        let failing = ServerMethod(Post.echo) { call in
            var trailers = Metadata(["grpc-retry-pushback-ms": "150"])
            trailers.append("x-bin", bytes: [0, 255])
            throw GRPCStatus(
                .failedPrecondition, "50 % of ☺\n", details: [1, 2, 3], trailers: trailers)
        }
        try await withChannel([failing]) { channel in
            let thrown = await status { () throws(GRPCStatus) in
                _ = try await channel.unary(Post.echo, Letter(""))
            }
            #expect(thrown.code == .failedPrecondition)
            #expect(thrown.message == "50 % of ☺\n")
            #expect(thrown.details == [1, 2, 3])
            #expect(thrown.trailers.first("grpc-retry-pushback-ms") == "150")
            #expect(thrown.trailers.firstBytes("x-bin") == [0, 255])
            #expect(!thrown.isTransport)
            #expect(!thrown.notProcessed)
        }
    }

    @Test func messagesBeforeAStatusArrive() async throws {
        let failing = ServerMethod(Post.count) { call in
            _ = try await call.request(Letter.self)
            for index in 0..<10 { try await call.send(Letter("\(index)")) }
            call.trailers.append("after", "ten")
            throw GRPCStatus(.outOfRange, "no more")
        }
        try await withChannel([failing]) { channel in
            var received = 0
            let thrown = await status { () throws(GRPCStatus) in
                for try await _ in channel.serverStreaming(Post.count, Letter("")) {
                    received += 1
                }
            }
            #expect(received == 10)
            #expect(thrown.code == .outOfRange)
            #expect(thrown.trailers.first("after") == "ten")
        }
    }

    @Test func anUnforeseenErrorTellsNothing() async throws {
        struct Secret: Error {}
        let failing = ServerMethod(Post.echo) { _ in throw Secret() }
        try await withChannel([failing]) { channel in
            let thrown = await status { () throws(GRPCStatus) in
                _ = try await channel.unary(Post.echo, Letter(""))
            }
            #expect(thrown == GRPCStatus(.internal, "the handler failed"))
        }
    }

    @Test func whatIsNotThereIsUnimplemented() async throws {
        try await withChannel([CallTests.echo]) { channel in
            let method = await status { () throws(GRPCStatus) in
                _ = try await channel.unary(Post.count, Letter(""))
            }
            #expect(method.code == .unimplemented)
            #expect(method.message == "service test.Post has no method Count")
        }
    }

    @Test func metadataGoesBothWays() async throws {
        let echo = ServerMethod(Post.echo) { call in
            let letter = try await call.request(Letter.self)
            call.sendInitialMetadata(Metadata(["x-head": call.metadata.first("x-ask") ?? "none"]))
            for bytes in call.metadata.allBytes("x-ask-bin") {
                call.trailers.append("x-end-bin", bytes: bytes)
            }
            try await call.send(letter)
        }
        try await withChannel([echo]) { channel in
            var options = CallOptions(metadata: Metadata(["x-ask": "a value"]))
            options.metadata.append("x-ask-bin", bytes: [1, 2])
            options.metadata.append("x-ask-bin", bytes: [])
            let answer = try await channel.unaryWithMetadata(
                Post.echo, Letter(""), options: options)
            #expect(answer.initialMetadata.first("x-head") == "a value")
            #expect(answer.trailers.allBytes("x-end-bin") == [[1, 2], []])
        }
    }

    @Test func aDeadlineEndsBothSides() async throws {
        let causes = Signal<CancellationCause>()
        let hasStarted = Atomic<Bool>(false)
        let method = ServerMethod(Post.echo) { call in
            hasStarted.store(true, ordering: .relaxed)
            call.onCancellation { causes.send($0) }
            try await Task.sleep(for: .seconds(3600))
        }
        try await withChannel([method]) { channel in
            // On a busy machine a short deadline may pass before the call reaches its handler.
            var timeout = Duration.milliseconds(25)
            while !hasStarted.load(ordering: .relaxed) {
                timeout *= 2
                let thrown = await status { () throws(GRPCStatus) in
                    _ = try await channel.unary(
                        Post.echo, Letter(""), options: CallOptions(timeout: timeout))
                }
                #expect(thrown.code == .deadlineExceeded)
            }
            let cause = await causes.next()
            #expect(cause == .deadline || cause == .reset)
        }
    }

    @Test func cancellingTheTaskCancelsTheCall() async throws {
        let causes = Signal<CancellationCause>()
        let started = Signal<Void>()
        let method = ServerMethod(Post.echo) { call in
            call.onCancellation { causes.send($0) }
            started.send(())
            try await Task.sleep(for: .seconds(3600))
        }
        try await withChannel([method]) { channel in
            let task = Task { try await channel.unary(Post.echo, Letter("")) }
            await started.next()
            task.cancel()
            let result = await task.result
            #expect(throws: GRPCStatus(.cancelled, "the call was cancelled")) { try result.get() }
            #expect(await causes.next() == .reset)
        }
    }

    @Test func droppingAStreamEndsItsCall() async throws {
        let causes = Signal<CancellationCause>()
        let endless = ServerMethod(Post.count) { call in
            call.onCancellation { causes.send($0) }
            while true { try await call.send(Letter("again")) }
        }
        try await withChannel([endless]) { channel in
            for try await _ in channel.serverStreaming(Post.count, Letter("")) { break }
            #expect(await causes.next() == .reset)
        }
    }

    @Test func anEarlyAnswerEndsASendingCaller() async throws {
        let early = ServerMethod(Post.join) { call in
            _ = try await call.next(Letter.self)
            throw GRPCStatus(.invalidArgument, "enough")
        }
        try await withChannel([early]) { channel in
            let call = channel.clientStreaming(Post.join)
            let sending = await status { () throws(GRPCStatus) in
                let letter = Letter("x", bytes: [UInt8](repeating: 0, count: 60_000))
                while true { try await call.send(letter) }
            }
            #expect(sending == GRPCStatus(.invalidArgument, "enough"))
            let answer = await status { () throws(GRPCStatus) in _ = try await call.response() }
            #expect(answer == GRPCStatus(.invalidArgument, "enough"))
        }
    }

    @Test func closingTheChannelEndsItsCalls() async throws {
        let causes = Signal<CancellationCause>()
        try await withServer([waiting(causes)]) { loopback in
            let channel = loopback.makeChannel()
            async let call = status { () throws(GRPCStatus) in
                _ = try await channel.unary(Post.echo, Letter(""))
            }
            while loopback.server.openConnections == 0 { await Task.yield() }
            await channel.close()
            #expect(await call == GRPCStatus(.cancelled, "the channel was closed"))
            let after = await status { () throws(GRPCStatus) in
                _ = try await channel.unary(Post.echo, Letter(""))
            }
            #expect(after == GRPCStatus(.cancelled, "the channel was closed"))
        }
    }

    @Test func aChannelThatIsDroppedClosesItsConnection() async throws {
        let closed = Signal<Void>()
        var configuration = ServerConfiguration()
        configuration.connectionObserver = { event in
            if case .closed = event { closed.send(()) }
        }
        try await withServer([CallTests.echo], configuration: configuration) { loopback in
            do {
                let channel = loopback.makeChannel()
                _ = try await channel.unary(Post.echo, Letter(""))
            }
            await closed.next()
        }
    }

    @Test func stoppingTheServerCancelsItsCalls() async throws {
        let causes = Signal<CancellationCause>()
        let running = Signal<Void>()
        let method = ServerMethod(Post.echo) { call in
            call.onCancellation { causes.send($0) }
            running.send(())
            try await Task.sleep(for: .seconds(3600))
        }
        try await withServer([method]) { loopback in
            let channel = loopback.makeChannel()
            async let call = status { () throws(GRPCStatus) in
                _ = try await channel.unary(Post.echo, Letter(""))
            }
            await running.next()
            await loopback.server.stopNow()
            #expect(await causes.next() == .shutdown)
            let ended = await call
            #expect(ended == GRPCStatus(.unavailable, "the server is shutting down"))
            await channel.close()
        }
    }

    @Test func drainingLetsCallsEndAndTakesNoNewOnes() async throws {
        let running = Signal<Void>()
        let release = Signal<Void>()
        let method = ServerMethod(Post.echo) { call in
            let letter = try await call.request(Letter.self)
            running.send(())
            await release.next()
            try await call.send(letter)
        }
        try await withServer([method]) { loopback in
            let channel = loopback.makeChannel()
            async let answer = channel.unary(Post.echo, Letter("kept"))
            await running.next()
            async let drained: Void = loopback.server.drain(timeout: .seconds(30))
            let refused = await status { () throws(GRPCStatus) in
                while true { _ = try await channel.unary(Post.count, Letter("")) }
            }
            #expect(refused.code == .unimplemented || refused.code == .unavailable)
            release.send(())
            let kept = try await answer
            #expect(kept.typeUrl == "kept")
            await drained
            let after = await status { () throws(GRPCStatus) in
                _ = try await channel.unary(Post.echo, Letter(""))
            }
            #expect(after.code == .unavailable)
            #expect(after.notProcessed)
            #expect(after.isTransport)
            await channel.close()
        }
    }

    @Test func aServerThatIsNotThereIsUnavailableAndNothingWasProcessed() async throws {
        let channel = GRPCChannel(
            .http(host: "127.0.0.1", port: 1), group: MultiThreadedEventLoopGroup.singleton)
        let thrown = await status { () throws(GRPCStatus) in
            _ = try await channel.unary(Post.echo, Letter(""))
        }
        #expect(thrown.code == .unavailable)
        #expect(thrown.isTransport)
        #expect(thrown.notProcessed)
        let patient = await status { () throws(GRPCStatus) in
            _ = try await channel.unary(
                Post.echo, Letter(""),
                options: CallOptions(timeout: .milliseconds(150), waitForReady: true))
        }
        #expect(patient.code == .deadlineExceeded)
        await channel.close()
    }

    @Test func theInterceptorDecidesBeforeTheHandler() async throws {
        var configuration = ServerConfiguration()
        let summaries = Signal<CallSummary>()
        configuration.interceptor = { call throws(GRPCStatus) in
            guard call.metadata.first("authorization") == "Bearer x" else {
                throw GRPCStatus(.unauthenticated, "who are you")
            }
            call.principal = "x"
        }
        configuration.observer = { summaries.send($0) }
        try await withChannel([CallTests.echo], configuration: configuration) { channel in
            let refused = await status { () throws(GRPCStatus) in
                _ = try await channel.unary(Post.echo, Letter(""))
            }
            #expect(refused.code == .unauthenticated)
            let first = await summaries.next()
            #expect(first?.code == .unauthenticated)
            #expect(first?.principal == nil)
            _ = try await channel.unary(
                Post.echo, Letter("abc"),
                options: CallOptions(metadata: Metadata(["authorization": "Bearer x"])))
            let second = await summaries.next()
            #expect(second?.code == .ok)
            #expect(second?.principal == "x")
            #expect(second?.messagesIn == 1)
            #expect(second?.messagesOut == 1)
            #expect(second?.path == "/test.Post/Echo")
        }
    }
}
