// Why a command to the supervisor had no result.

public import ProcgateV1

/// A command that failed, and why.
public enum SupervisorError: Error, Sendable {
    /// The supervisor's answer, with the contract's reason.
    case refused(ErrorReason, message: String)
    /// The supervisor is gone, or cannot be reached: nothing is known of the command.
    case lost(String)
    /// Its caller gave the command up.
    case abandoned
    /// The supervisor said what its protocol does not know.
    case protocolViolation(String)
}
