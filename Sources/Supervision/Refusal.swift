// Why a command was refused. Knows no wire.

public import ProcgateV1

/// One of the contract's reasons, with a sentence for people.
public struct Refusal: Error, Equatable, Sendable {
    public let reason: ErrorReason
    public let message: String

    public init(_ reason: ErrorReason, _ message: String) {
        self.reason = reason
        self.message = message
    }

    static func notFound(_ id: String) -> Refusal {
        Refusal(.processNotFound, "there is no process '\(id.prefix(64))'")
    }

    static func userUnknown(_ name: String) -> Refusal {
        let told = name.utf8.count > 64 ? "\(name.prefix(64))…" : name
        return Refusal(.userUnknown, "there is no user '\(told)'")
    }

    static func userUnresponsive(_ name: String) -> Refusal {
        Refusal(
            .hostUnresponsive, "the host's user service does not answer for user '\(name)'")
    }

    static let notRunning = Refusal(.processNotRunning, "the process is not running")
    static let stdinClosed = Refusal(.stdinClosed, "the process's stdin is closed")
}
