// The contract's errors as gRPC statuses: each carries a google.rpc.Status with one
// ErrorInfo, so that a client decides by the reason and not by the text.

import GRPCProtos
public import GRPCWire
public import ProcgateV1
import Protobuf
import SupervisorLink

extension GRPCStatus {
    /// What every ErrorInfo of this service names as its domain.
    public static let domain = "procgate"

    /// In bytes. It is sent twice, within the 8 KiB of header fields that the strictest of
    /// gRPC's implementations take; with more than 6 KiB the details would be left out.
    private static let longestMessage = 512

    /// An error of the contract.
    public static func refusal(
        _ reason: ErrorReason, _ text: String, metadata: [String: String] = [:]
    ) -> GRPCStatus {
        let message = text.cut(toBytes: longestMessage)
        let info = ErrorInfo.with {
            $0.reason = reason.rawValue
            $0.domain = domain
            $0.metadata = metadata.mapValues { $0.cut(toBytes: longestMessage) }
        }
        let packed = AnyMessage.with {
            $0.typeUrl = "type.googleapis.com/\(ErrorInfo.fullName)"
            $0.value = info.encoded()
        }
        let status = Status.with {
            $0.code = Int32(reason.code)
            $0.message = message
            $0.details = [packed]
        }
        return GRPCStatus(
            GRPCCode(rawValue: reason.code) ?? .internal, message, details: status.encoded())
    }

    /// The reason of a refusal; `nil` for a status of another kind.
    var reason: ErrorReason? {
        guard !details.isEmpty, let status = try? Status(decoding: details),
            let packed = status.details.first,
            let info = try? ErrorInfo(decoding: packed.value)
        else { return nil }
        return ErrorReason(rawValue: info.reason)
    }

    /// What the supervisor's refusal, or its absence, means for the caller.
    static func supervisor(_ error: SupervisorError) -> GRPCStatus {
        switch error {
        case .refused(let reason, let message): .refusal(reason, message)
        case .lost(let message): .refusal(.supervisorUnavailable, message)
        case .abandoned: GRPCStatus(.cancelled, "the call was cancelled")
        case .protocolViolation(let message): GRPCStatus(.internal, message)
        }
    }
}
