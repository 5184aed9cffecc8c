// The cases whose calls are streams, in either direction or both.

import GRPCTesting
import GRPCWire

private typealias Duplex = ClientCall<StreamingOutputCallRequest, StreamingOutputCallResponse>

extension CasePlayer {
    private static let requestSizes = [27182, 8, 1828, 45904]
    private static let responseSizes = [31415, 9, 2653, 58979]

    func clientStreaming(_ channel: GRPCChannel) async throws {
        let call = channel.clientStreaming(
            TestService.streamingInputCall, options: callOptions())
        for size in Self.requestSizes {
            var request = StreamingInputCallRequest()
            request.payload = zeros(size)
            try await call.send(request)
        }
        let answer = try await call.response()
        try expectEqual(answer.aggregatedPayloadSize, 74922, "the sum")
    }

    func clientCompressedStreaming(_ channel: GRPCChannel) async throws {
        var request = StreamingInputCallRequest()
        request.payload = zeros(27182)
        request.expectCompressed = wanted(true)
        let probe = channel.clientStreaming(
            TestService.streamingInputCall, options: callOptions(.gzip))
        try await expectFailure(.invalidArgument, "the probe") { () throws(GRPCStatus) in
            try await probe.send(request, compress: false)
            _ = try await probe.response()
        }
        let call = channel.clientStreaming(
            TestService.streamingInputCall, options: callOptions(.gzip))
        try await call.send(request)
        request.payload = zeros(45904)
        request.expectCompressed = wanted(false)
        try await call.send(request, compress: false)
        let answer = try await call.response()
        try expectEqual(answer.aggregatedPayloadSize, 73086, "the sum")
    }

    func serverStreaming(_ channel: GRPCChannel) async throws {
        var request = StreamingOutputCallRequest()
        request.responseParameters = Self.responseSizes.map { ResponseParameters($0) }
        let stream = channel.serverStreaming(
            TestService.streamingOutputCall, request, options: callOptions())
        var sizes: [Int] = []
        for try await response in stream { sizes.append(response.payload?.body.count ?? -1) }
        try expectEqual(sizes, Self.responseSizes, "the answers' sizes")
    }

    func serverCompressedStreaming(_ channel: GRPCChannel) async throws {
        let wantedSizes = [(31415, true), (92653, false)]
        var request = StreamingOutputCallRequest()
        request.responseParameters = wantedSizes.map { size, isCompressed in
            var parameters = ResponseParameters(size)
            parameters.compressed = wanted(isCompressed)
            return parameters
        }
        let stream = channel.serverStreaming(
            TestService.streamingOutputCall, request, options: callOptions())
        var responses = stream.makeAsyncIterator()
        for (size, isCompressed) in wantedSizes {
            let response = try await responses.next()
            try expectZeros(response?.payload, size)
            try expectEqual(
                stream.lastMessageWasCompressed, isCompressed, "the answer's being compressed")
        }
        try expect(try await responses.next() == nil, "there are more answers than asked for")
    }

    func pingPong(_ channel: GRPCChannel) async throws {
        let call = channel.bidirectional(TestService.fullDuplexCall, options: callOptions())
        var responses = call.responses.makeAsyncIterator()
        for (requestSize, responseSize) in zip(Self.requestSizes, Self.responseSizes) {
            try await call.send(request(requestSize, responseSize))
            try expectZeros(try await responses.next()?.payload, responseSize)
        }
        call.halfClose()
        try expect(try await responses.next() == nil, "there are more answers than asked for")
    }

    func emptyStream(_ channel: GRPCChannel) async throws {
        let call = channel.bidirectional(TestService.fullDuplexCall, options: callOptions())
        call.halfClose()
        for try await _ in call.responses {
            throw Unexpected(description: "an answer came to no request")
        }
    }

    func customMetadata(_ channel: GRPCChannel) async throws {
        var metadata = Metadata()
        metadata.append("x-grpc-test-echo-initial", "test_initial_metadata_value")
        metadata.append("x-grpc-test-echo-trailing-bin", bytes: [0xab, 0xab, 0xab])
        let options = callOptions(metadata: metadata)
        let answer = try await channel.unaryWithMetadata(
            TestService.unaryCall, largeRequest(), options: options)
        try expectEcho(answer.initialMetadata, answer.trailers)
        let call = channel.bidirectional(TestService.fullDuplexCall, options: options)
        try await call.send(request(Self.largeRequest, Int(Self.largeResponse)))
        call.halfClose()
        for try await response in call.responses {
            try expectZeros(response.payload, Int(Self.largeResponse))
        }
        try expectEcho(
            try await call.responses.initialMetadata, call.responses.trailers ?? Metadata())
    }

    private func expectEcho(_ initial: Metadata, _ trailing: Metadata) throws {
        try expectEqual(
            initial.first("x-grpc-test-echo-initial"), "test_initial_metadata_value",
            "the initial metadata")
        try expectEqual(
            trailing.firstBytes("x-grpc-test-echo-trailing-bin"), [0xab, 0xab, 0xab],
            "the trailing metadata")
    }

    func statusOfBothKinds(_ message: String, _ channel: GRPCChannel) async throws {
        try await statusOfUnary(message, channel)
        var request = StreamingOutputCallRequest()
        request.responseStatus = EchoStatus(2, message)
        let call = channel.bidirectional(TestService.fullDuplexCall, options: callOptions())
        try await call.send(request)
        call.halfClose()
        let status = try await expectFailure(.unknown, "FullDuplexCall") {
            () throws(GRPCStatus) in
            for try await _ in call.responses {}
        }
        try expectEqual(status.message, message, "the status's message")
    }

    func cancelAfterBegin(_ channel: GRPCChannel) async throws {
        let call = channel.clientStreaming(
            TestService.streamingInputCall, options: callOptions())
        call.cancel()
        try await expectFailure(.cancelled, "the call") { () throws(GRPCStatus) in
            _ = try await call.response()
        }
    }

    func cancelAfterFirstResponse(_ channel: GRPCChannel) async throws {
        let call = channel.bidirectional(TestService.fullDuplexCall, options: callOptions())
        var responses = call.responses.makeAsyncIterator()
        try await call.send(request(27182, 31415))
        try expectZeros(try await responses.next()?.payload, 31415)
        call.cancel()
        try await expectCancelled(call)
    }

    private func expectCancelled(_ call: Duplex) async throws {
        try await expectFailure(.cancelled, "the call") { () throws(GRPCStatus) in
            for try await _ in call.responses {}
        }
    }

    func timeoutOnSleepingServer(_ channel: GRPCChannel) async throws {
        // The channel connects first: the deadline is to pass in the server, not on the way.
        try await emptyUnary(channel)
        let call = channel.bidirectional(
            TestService.fullDuplexCall, options: callOptions(timeout: .milliseconds(1)))
        try await expectFailure(.deadlineExceeded, "the call") { () throws(GRPCStatus) in
            var request = StreamingOutputCallRequest()
            request.payload = zeros(27182)
            try await call.send(request)
            for try await _ in call.responses {}
        }
    }

    private func request(_ size: Int, _ responseSize: Int) -> StreamingOutputCallRequest {
        var request = StreamingOutputCallRequest()
        request.responseParameters = [ResponseParameters(responseSize)]
        request.payload = zeros(size)
        return request
    }
}

extension ResponseParameters {
    init(_ size: Int) {
        self.init()
        self.size = Int32(size)
    }
}
