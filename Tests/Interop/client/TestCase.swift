// The cases by gRPC's names, and what all of them share: the channel and what is expected.

import ArgumentParser
import GRPCTesting
import GRPCWire
import NIOPosix
import Protobuf

enum TestCase: String, CaseIterable, ExpressibleByArgument {
    case emptyUnary = "empty_unary"
    case largeUnary = "large_unary"
    case clientCompressedUnary = "client_compressed_unary"
    case serverCompressedUnary = "server_compressed_unary"
    case clientStreaming = "client_streaming"
    case clientCompressedStreaming = "client_compressed_streaming"
    case serverStreaming = "server_streaming"
    case serverCompressedStreaming = "server_compressed_streaming"
    case pingPong = "ping_pong"
    case emptyStream = "empty_stream"
    case customMetadata = "custom_metadata"
    case statusCodeAndMessage = "status_code_and_message"
    case specialStatusMessage = "special_status_message"
    case unimplementedMethod = "unimplemented_method"
    case unimplementedService = "unimplemented_service"
    case cancelAfterBegin = "cancel_after_begin"
    case cancelAfterFirstResponse = "cancel_after_first_response"
    case timeoutOnSleepingServer = "timeout_on_sleeping_server"
    case rpcSoak = "rpc_soak"
    case channelSoak = "channel_soak"
}

/// What went otherwise than the case demands.
struct Unexpected: Error, CustomStringConvertible {
    let description: String
}

func expect(_ condition: Bool, _ otherwise: @autoclosure () -> String) throws {
    guard condition else { throw Unexpected(description: otherwise()) }
}

func expectEqual<Value: Equatable>(_ seen: Value, _ wanted: Value, _ what: String) throws {
    try expect(seen == wanted, "\(what) is \(seen) instead of \(wanted)")
}

/// Plays cases, each on a channel of its own.
struct CasePlayer: Sendable {
    let target: GRPCTarget
    let options: GRPCChannelOptions
    let compression: CompressionAlgorithm
    let timeout: Duration
    let soakIterations: Int

    static let largeRequest = 271_828
    static let largeResponse: Int32 = 314_159

    func play(_ testCase: TestCase) async throws {
        if testCase == .channelSoak {
            for _ in 0..<soakIterations { try await withChannel(largeUnary) }
            return
        }
        try await withChannel { channel in
            switch testCase {
            case .emptyUnary: try await emptyUnary(channel)
            case .largeUnary: try await largeUnary(channel)
            case .clientCompressedUnary: try await clientCompressedUnary(channel)
            case .serverCompressedUnary: try await serverCompressedUnary(channel)
            case .clientStreaming: try await clientStreaming(channel)
            case .clientCompressedStreaming: try await clientCompressedStreaming(channel)
            case .serverStreaming: try await serverStreaming(channel)
            case .serverCompressedStreaming: try await serverCompressedStreaming(channel)
            case .pingPong: try await pingPong(channel)
            case .emptyStream: try await emptyStream(channel)
            case .customMetadata: try await customMetadata(channel)
            case .statusCodeAndMessage:
                try await statusOfBothKinds("test status message", channel)
            case .specialStatusMessage: try await specialStatusMessage(channel)
            case .unimplementedMethod: try await unimplementedMethod(channel)
            case .unimplementedService: try await unimplementedService(channel)
            case .cancelAfterBegin: try await cancelAfterBegin(channel)
            case .cancelAfterFirstResponse: try await cancelAfterFirstResponse(channel)
            case .timeoutOnSleepingServer: try await timeoutOnSleepingServer(channel)
            case .rpcSoak: for _ in 0..<soakIterations { try await largeUnary(channel) }
            case .channelSoak: break
            }
        }
    }

    private func withChannel(_ body: (GRPCChannel) async throws -> Void) async throws {
        let channel = GRPCChannel(
            target, options: options, group: MultiThreadedEventLoopGroup.singleton)
        do {
            try await body(channel)
        } catch {
            await channel.close()
            throw error
        }
        await channel.close()
    }

    /// What every call says, with what this one says besides.
    func callOptions(
        _ compression: CompressionAlgorithm? = nil, metadata: Metadata = Metadata(),
        timeout: Duration? = nil
    ) -> CallOptions {
        CallOptions(
            metadata: metadata, timeout: timeout ?? self.timeout,
            compression: compression ?? self.compression)
    }

    /// The status that `body` ends with, which must have this code.
    @discardableResult
    func expectFailure(
        _ code: GRPCCode, _ what: String, _ body: () async throws(GRPCStatus) -> Void
    ) async throws -> GRPCStatus {
        do throws(GRPCStatus) {
            try await body()
        } catch {
            try expect(error.code == code, "\(what) ends with \(error) instead of \(code.name)")
            return error
        }
        throw Unexpected(description: "\(what) ends with OK instead of \(code.name)")
    }
}

/// A payload of so many zeros.
func zeros(_ count: Int) -> Payload {
    var payload = Payload()
    payload.body = [UInt8](repeating: 0, count: count)
    return payload
}

func wanted(_ value: Bool) -> BoolValue {
    var wanted = BoolValue()
    wanted.value = value
    return wanted
}

func expectZeros(_ payload: Payload?, _ count: Int) throws {
    let body = payload?.body ?? []
    try expectEqual(body.count, count, "the payload's size")
    try expect(body.allSatisfy { $0 == 0 }, "the payload is not of zeros")
}
