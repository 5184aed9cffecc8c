// Why a command to the supervisor had no result.

public import ProcgateV1

/// A command that failed, and why.
public enum SupervisorError: Error, Sendable, CustomStringConvertible {
    /// The supervisor's answer, with the contract's reason.
    case refused(ErrorReason, message: String)
    /// The supervisor is gone, or cannot be reached: nothing is known of the command.
    case lost(String)
    /// Its caller gave the command up.
    case abandoned
    /// The supervisor said what its protocol does not know.
    case protocolViolation(String)

    /// For people; not for programs to read.
    public var description: String {
        switch self {
        case .refused(_, let message), .lost(let message), .protocolViolation(let message): message
        case .abandoned: "the command was given up by its caller"
        }
    }
}
