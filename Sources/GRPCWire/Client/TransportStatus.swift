// Statuses that the client makes of what the transport says (gRPC's own mappings).

import HTTP2

enum TransportStatus {
    /// For a stream that ended by RST_STREAM without a status.
    static func reset(_ code: HTTP2ErrorCode) -> GRPCStatus {
        switch code {
        case .refusedStream: refused
        case .cancel:
            .transport(.cancelled, "the stream was cancelled by the server, or by a proxy")
        case .enhanceYourCalm:
            .transport(.resourceExhausted, "the server asks for calm")
        case .inadequateSecurity:
            .transport(.permissionDenied, "the server demands better TLS", mismatch: .tls)
        case .noError, .protocolError, .internalError, .flowControlError, .settingsTimeout,
            .frameSizeError, .compressionError, .connectError:
            .transport(.internal, "the stream was reset with HTTP/2 error \(code.rawValue)")
        default:
            .transport(.unknown, "the stream was reset with HTTP/2 error \(code.rawValue)")
        }
    }

    /// For an answer that is not gRPC's.
    static func http(_ status: String) -> GRPCStatus {
        let message = "HTTP status \(status) instead of a gRPC answer"
        switch status {
        case "401": return GRPCStatus(.unauthenticated, message)
        case "403": return GRPCStatus(.permissionDenied, message)
        case "429", "502", "503", "504": return .transport(.unavailable, message)
        case "400": return otherProtocol(.internal, message)
        case "404": return otherProtocol(.unimplemented, message)
        default: return otherProtocol(.unknown, message)
        }
    }

    private static func otherProtocol(_ code: GRPCCode, _ message: String) -> GRPCStatus {
        var status = GRPCStatus(code, message)
        status.mismatch = .otherProtocol
        return status
    }

    /// Said by the peer, which is there: not a failure of the transport.
    private static let refused: GRPCStatus = {
        var status = GRPCStatus(.unavailable, "the server refused the stream")
        status.notProcessed = true
        return status
    }()

    static let connectionLost = GRPCStatus.transport(.unavailable, "the connection was lost")
    static let channelClosed = GRPCStatus(.cancelled, "the channel was closed")
}
