// The cases whose calls are of one message each way.

import GRPCTesting
import GRPCWire

extension CasePlayer {
    func largeRequest() -> SimpleRequest {
        var request = SimpleRequest()
        request.responseSize = Self.largeResponse
        request.payload = zeros(Self.largeRequest)
        return request
    }

    func emptyUnary(_ channel: GRPCChannel) async throws {
        let answer = try await channel.unary(
            TestService.emptyCall, Empty(), options: callOptions())
        try expectEqual(answer, Empty(), "the answer")
    }

    func largeUnary(_ channel: GRPCChannel) async throws {
        let answer = try await channel.unary(
            TestService.unaryCall, largeRequest(), options: callOptions())
        try expectZeros(answer.payload, Int(Self.largeResponse))
    }

    func clientCompressedUnary(_ channel: GRPCChannel) async throws {
        var request = largeRequest()
        request.expectCompressed = wanted(true)
        try await expectFailure(.invalidArgument, "the probe") { () throws(GRPCStatus) in
            _ = try await channel.unary(
                TestService.unaryCall, request, options: callOptions(.identity))
        }
        for compression in [CompressionAlgorithm.gzip, .identity] {
            request.expectCompressed = wanted(compression == .gzip)
            let answer = try await channel.unary(
                TestService.unaryCall, request, options: callOptions(compression))
            try expectZeros(answer.payload, Int(Self.largeResponse))
        }
    }

    func serverCompressedUnary(_ channel: GRPCChannel) async throws {
        for isCompressed in [true, false] {
            var request = largeRequest()
            request.responseCompressed = wanted(isCompressed)
            let answer = try await channel.unaryWithMetadata(
                TestService.unaryCall, request, options: callOptions())
            try expectEqual(answer.wasCompressed, isCompressed, "the answer's being compressed")
            try expectZeros(answer.message.payload, Int(Self.largeResponse))
        }
    }

    func specialStatusMessage(_ channel: GRPCChannel) async throws {
        try await statusOfUnary(
            "\t\ntest with whitespace\r\nand Unicode BMP \u{263A} and non-BMP \u{1F608}\t\n",
            channel)
    }

    func statusOfUnary(_ message: String, _ channel: GRPCChannel) async throws {
        var request = SimpleRequest()
        request.responseStatus = EchoStatus(2, message)
        let status = try await expectFailure(.unknown, "UnaryCall") { () throws(GRPCStatus) in
            _ = try await channel.unary(TestService.unaryCall, request, options: callOptions())
        }
        try expectEqual(status.message, message, "the status's message")
    }

    func unimplementedMethod(_ channel: GRPCChannel) async throws {
        try await expectFailure(.unimplemented, "the method") { () throws(GRPCStatus) in
            _ = try await channel.unary(
                TestService.unimplementedCall, Empty(), options: callOptions())
        }
    }

    func unimplementedService(_ channel: GRPCChannel) async throws {
        try await expectFailure(.unimplemented, "the service") { () throws(GRPCStatus) in
            _ = try await channel.unary(
                UnimplementedService.unimplementedCall, Empty(), options: callOptions())
        }
    }
}

extension EchoStatus {
    init(_ code: Int32, _ message: String) {
        self.init()
        self.code = code
        self.message = message
    }
}
