// A gRPC status, as this library's error. The one place that looks into status details.

internal import GRPCProtos
internal import GRPCWire
internal import Protobuf

extension SandboxError {
    /// - Parameter processID: The process that the call was about, where there is one.
    init(_ status: GRPCStatus, processID: String? = nil) {
        let info = status.errorInfo
        let reason = info.flatMap { Reason(rawValue: $0.reason) } ?? Reason(status)
        let message = status.message.isEmpty ? status.code.name : status.message
        self.init(reason, message, code: status.code, processID: processID)
        if processID == nil { self.processID = info?.metadata["process_id"] }
        firstRetainedSeq = info?.metadata["first_retained_seq"].flatMap { UInt64($0) }
        mayRetry = mayRetry || status.isPassing
    }
}

extension SandboxError.Reason {
    /// For a status that names no reason of the contract.
    fileprivate init(_ status: GRPCStatus) {
        switch status.mismatch {
        case .otherProtocol: self = .notGateway
        case .untrustedCertificate: self = .certificateUntrusted
        case .refusedCaller: self = .permissionDenied
        case .tls: self = .tlsFailed
        case nil: self.init(status.code, isTransport: status.isTransport)
        }
    }

    private init(_ code: GRPCCode, isTransport: Bool) {
        switch code {
        // By a proxy, as it seems; what the caller cancels is told as such.
        case .cancelled where isTransport: self = .gatewayUnavailable
        case .cancelled: self = .cancelled
        case .invalidArgument, .outOfRange: self = .invalidArgument
        case .deadlineExceeded: self = .deadlineExceeded
        case .notFound: self = .processNotFound
        case .permissionDenied: self = .permissionDenied
        case .resourceExhausted: self = .resourceExhausted
        case .failedPrecondition, .alreadyExists, .aborted: self = .failedPrecondition
        case .unimplemented: self = .unimplemented
        case .unavailable: self = .gatewayUnavailable
        case .unauthenticated: self = .tokenInvalid
        case .internal, .dataLoss: self = .internalError
        case .ok, .unknown: self = .unknown
        }
    }
}

extension GRPCStatus {
    /// The contract's: of the domain "procgate".
    fileprivate var errorInfo: ErrorInfo? {
        guard !details.isEmpty, let status = try? Status(decoding: details) else { return nil }
        for detail in status.details where detail.typeUrl.hasSuffix("/google.rpc.ErrorInfo") {
            if let info = try? ErrorInfo(decoding: detail.value), info.domain == "procgate" {
                return info
            }
        }
        return nil
    }

    /// What the gateway asks of those who want to repeat the call: how long to wait, or, where
    /// negative, not to. By the gRPC retry design, what cannot be read means not to.
    var pushback: Duration? {
        guard let text = trailers.first("grpc-retry-pushback-ms") else { return nil }
        return .milliseconds(Int64(text) ?? -1)
    }

    /// Whether a repeat of a call that may be repeated has a chance: the gateway said so, or said
    /// nothing, since the transport failed. Proxies cut connections, reset streams with any code
    /// and answer by themselves; only TLS that one side does not accept stays as it is.
    var isPassing: Bool {
        guard !isRefusedByHost else { return false }
        return code == .unavailable || ((isTransport || notProcessed) && !isTLSRefusal)
    }

    /// The gateway is there and has refused the call for as long as something on its host stays
    /// as it is: its caller decides whether to ask again.
    private var isRefusedByHost: Bool {
        guard code == .unavailable, let reason = errorInfo?.reason else { return false }
        return reason == SandboxError.Reason.hostUnresponsive.rawValue
            || reason == SandboxError.Reason.cordoned.rawValue
    }
}
