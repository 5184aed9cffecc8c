// How a command ends that could not do its work: one line on standard error, and an exit status.
// Knows nothing of where the failure came from but what it was told.

/// Thrown by commands. The message says what to do, in one line without a full stop.
struct Failure: Error, Equatable, CustomStringConvertible {
    let message: String
    let status: ExitStatus

    init(_ message: String, status: ExitStatus = .failure) {
        self.message = message
        self.status = status
    }

    var description: String { message }
}

/// Several that came of one command, at least one. The exit status is the first one's.
struct Failures: Error {
    let all: [Failure]
}

/// After sysexits.h where it has a number.
enum ExitStatus: Int32 {
    case failure = 1
    case usage = 64
    case unreachable = 69
    case refused = 77
    /// A command that ran past its timeout, as `timeout(1)` has it.
    case timedOut = 124
    /// A program that cannot be executed, and one that does not exist, as shells have it.
    case notExecutable = 126
    case notFound = 127
}
