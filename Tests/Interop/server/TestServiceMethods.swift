// grpc.testing.TestService as gRPC's interoperability tests describe it. UnimplementedCall is
// left out, as is UnimplementedService. Knows no transport.

import GRPCTesting
import GRPCWire

struct TestServiceMethods: Sendable {
    /// Bytes that an answer's payload may have.
    let largestPayload: Int

    /// Answers that a HalfDuplexCall may ask for before its half-close.
    private static let answersKept = 10_000

    var all: [ServerMethod] {
        [
            .unary(TestService.emptyCall) { _, call in
                Echo.apply(to: call)
                return Empty()
            },
            .unary(TestService.unaryCall) { try answer($0, $1) },
            .unary(TestService.cacheableUnaryCall) { try answer($0, $1) },
            ServerMethod(TestService.streamingOutputCall) { try await streamingOutput($0) },
            ServerMethod(TestService.streamingInputCall) { try await streamingInput($0) },
            ServerMethod(TestService.fullDuplexCall) { try await fullDuplex($0) },
            ServerMethod(TestService.halfDuplexCall) { try await halfDuplex($0) },
        ]
    }

    private func answer(
        _ request: SimpleRequest, _ call: ServerCall
    ) throws(GRPCStatus) -> SimpleResponse {
        try checkCompression(request.expectCompressed, call)
        call.compression = request.responseCompressed?.value == true ? .gzip : .identity
        Echo.apply(to: call)
        try Self.fail(with: request.responseStatus)
        var response = SimpleResponse()
        response.payload = try payload(request.responseType, request.responseSize)
        return response
    }

    private nonisolated(nonsending) func streamingOutput(_ call: ServerCall) async throws {
        let request = try await call.request(StreamingOutputCallRequest.self)
        begin(call)
        try await send(request.responseParameters, request.responseType, call)
        try Self.fail(with: request.responseStatus)
    }

    private nonisolated(nonsending) func streamingInput(_ call: ServerCall) async throws {
        Echo.apply(to: call)
        var total: Int32 = 0
        while let request = try await call.next(StreamingInputCallRequest.self) {
            try checkCompression(request.expectCompressed, call)
            let size = Int32(clamping: request.payload?.body.count ?? 0)
            let (sum, isTooMuch) = total.addingReportingOverflow(size)
            guard !isTooMuch else {
                throw GRPCStatus(.outOfRange, "the payloads are more than \(Int32.max) bytes")
            }
            total = sum
        }
        var response = StreamingInputCallResponse()
        response.aggregatedPayloadSize = total
        try await call.send(response)
    }

    private nonisolated(nonsending) func fullDuplex(_ call: ServerCall) async throws {
        begin(call)
        while let request = try await call.next(StreamingOutputCallRequest.self) {
            try Self.fail(with: request.responseStatus)
            try await send(request.responseParameters, request.responseType, call)
        }
    }

    private nonisolated(nonsending) func halfDuplex(_ call: ServerCall) async throws {
        begin(call)
        var wanted: [ResponseParameters] = []
        while let request = try await call.next(StreamingOutputCallRequest.self) {
            try Self.fail(with: request.responseStatus)
            wanted += request.responseParameters
            guard wanted.count <= Self.answersKept else {
                throw GRPCStatus(
                    .resourceExhausted, "more than \(Self.answersKept) answers are asked for")
            }
        }
        try await send(wanted, .compressable, call)
    }

    /// Sends the head of a stream in which each message says whether it is compressed.
    private func begin(_ call: ServerCall) {
        call.compression = .gzip
        Echo.apply(to: call)
    }

    private nonisolated(nonsending) func send(
        _ wanted: [ResponseParameters], _ type: PayloadType, _ call: ServerCall
    ) async throws {
        for parameters in wanted {
            if parameters.intervalUs > 0 {
                try await Task.sleep(for: .microseconds(Int64(parameters.intervalUs)))
            }
            var response = StreamingOutputCallResponse()
            response.payload = try payload(type, parameters.size)
            try await call.send(response, compress: parameters.compressed?.value == true)
        }
    }

    private func payload(_ type: PayloadType, _ size: Int32) throws(GRPCStatus) -> Payload {
        guard type == .compressable else {
            throw GRPCStatus(.invalidArgument, "there is no payload of type \(type.rawValue)")
        }
        guard size >= 0, size <= largestPayload else {
            throw GRPCStatus(
                .invalidArgument, "a payload of \(size) bytes; the limit is \(largestPayload)")
        }
        var payload = Payload()
        payload.body = [UInt8](repeating: 0, count: Int(size))
        return payload
    }

    private func checkCompression(
        _ expected: BoolValue?, _ call: ServerCall
    ) throws(GRPCStatus) {
        guard let expected, expected.value != call.lastMessageWasCompressed else { return }
        throw GRPCStatus(
            .invalidArgument,
            expected.value
                ? "the message should be compressed, and is not"
                : "the message should not be compressed, and is")
    }

    private static func fail(with wanted: EchoStatus?) throws(GRPCStatus) {
        guard let wanted, wanted.code != 0 else { return }
        throw GRPCStatus(GRPCCode(rawValue: Int(wanted.code)) ?? .unknown, wanted.message)
    }
}

/// The metadata that a server sends back.
private enum Echo {
    private static let initial = "x-grpc-test-echo-initial"
    private static let trailing = "x-grpc-test-echo-trailing-bin"

    /// Sends the head of the answer, and leaves the trailers for its end.
    static func apply(to call: ServerCall) {
        for value in call.metadata.allBytes(trailing) {
            call.trailers.append(trailing, bytes: value)
        }
        var head = Metadata()
        for value in call.metadata.all(initial) { head.append(initial, value) }
        call.sendInitialMetadata(head)
    }
}
