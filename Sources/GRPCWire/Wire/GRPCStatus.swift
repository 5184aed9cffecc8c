// How a call ended: gRPC's codes and the status value. Knows no transport.

/// gRPC's status codes, with their numbers on the wire.
public enum GRPCCode: Int, Sendable, Hashable, CaseIterable {
    case ok = 0
    case cancelled
    case unknown
    case invalidArgument
    case deadlineExceeded
    case notFound
    case alreadyExists
    case permissionDenied
    case resourceExhausted
    case failedPrecondition
    case aborted
    case outOfRange
    case unimplemented
    case `internal`
    case unavailable
    case dataLoss
    case unauthenticated

    /// As gRPC's documents write it: "DEADLINE_EXCEEDED".
    public var name: String {
        switch self {
        case .ok: "OK"
        case .cancelled: "CANCELLED"
        case .unknown: "UNKNOWN"
        case .invalidArgument: "INVALID_ARGUMENT"
        case .deadlineExceeded: "DEADLINE_EXCEEDED"
        case .notFound: "NOT_FOUND"
        case .alreadyExists: "ALREADY_EXISTS"
        case .permissionDenied: "PERMISSION_DENIED"
        case .resourceExhausted: "RESOURCE_EXHAUSTED"
        case .failedPrecondition: "FAILED_PRECONDITION"
        case .aborted: "ABORTED"
        case .outOfRange: "OUT_OF_RANGE"
        case .unimplemented: "UNIMPLEMENTED"
        case .internal: "INTERNAL"
        case .unavailable: "UNAVAILABLE"
        case .dataLoss: "DATA_LOSS"
        case .unauthenticated: "UNAUTHENTICATED"
        }
    }
}

/// How a call ended, and what is thrown where it did not end well.
public struct GRPCStatus: Error, Sendable, Equatable {
    public var code: GRPCCode
    public var message: String
    /// A serialized google.rpc.Status (`grpc-status-details-bin`); empty: none.
    public var details: [UInt8]
    /// Further trailing metadata, like `grpc-retry-pushback-ms`.
    public var trailers: Metadata
    /// Made on this side: the transport failed, so the peer said nothing of the call's end.
    public var isTransport = false
    /// No handler of the peer can have seen the call: repeating it runs nothing twice.
    public var notProcessed = false
    /// Why the two sides do not understand each other, where that is so.
    public var mismatch: TransportMismatch?

    public init(
        _ code: GRPCCode, _ message: String = "", details: [UInt8] = [],
        trailers: Metadata = Metadata()
    ) {
        self.code = code
        self.message = message
        self.details = details
        self.trailers = trailers
    }

    /// A status of this side for what the transport did.
    public static func transport(
        _ code: GRPCCode, _ message: String, notProcessed: Bool = false,
        mismatch: TransportMismatch? = nil
    ) -> GRPCStatus {
        var status = GRPCStatus(code, message)
        status.isTransport = true
        status.notProcessed = notProcessed
        status.mismatch = mismatch
        return status
    }

    public static let ok = GRPCStatus(.ok)

    /// What a call meets whose own task is cancelled.
    public static let taskCancelled = GRPCStatus(.cancelled, "the task was cancelled")

    /// What a message meets that is sent on a call that the server has ended, and ended well.
    public static let endedByServer = GRPCStatus(.cancelled, "the server has ended the call")
}

extension GRPCStatus: CustomStringConvertible {
    public var description: String {
        message.isEmpty ? code.name : "\(code.name): \(message)"
    }
}

/// What keeps two sides from speaking gRPC with each other, though each of them is there.
public enum TransportMismatch: Sendable, Hashable {
    /// The peer speaks something else: no TLS where TLS was asked for, no HTTP/2, or HTTP that is
    /// not gRPC.
    case otherProtocol
    /// No trusted root has issued the server's certificate, or it is out of date.
    case untrustedCertificate
    /// The server demands another client certificate, or one at all.
    case refusedCaller
    /// TLS could not be agreed upon for any other reason, a certificate for another name among
    /// them.
    case tls
}

/// Why a call's handler is no longer wanted.
public enum CancellationCause: Sendable, Hashable {
    /// The peer reset the stream.
    case reset
    /// The call's deadline passed.
    case deadline
    /// The connection is gone.
    case connectionLost
    /// The server ends now.
    case shutdown
}
