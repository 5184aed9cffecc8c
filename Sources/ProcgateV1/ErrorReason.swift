// The reasons that the contract names in its comments: what a client decides by. Knows neither how
// a status is sent nor who refuses.

/// Why a call was refused: the `reason` of the google.rpc.ErrorInfo in its status, whose domain is
/// "procgate". Each has one gRPC code.
public enum ErrorReason: String, CaseIterable, Hashable, Sendable {
    // Of the contract.
    case commandRequired = "COMMAND_REQUIRED"
    case argumentsTooLong = "ARGUMENTS_TOO_LONG"
    case cwdInvalid = "CWD_INVALID"
    case envInvalid = "ENV_INVALID"
    case labelsInvalid = "LABELS_INVALID"
    case requestKeyInvalid = "REQUEST_KEY_INVALID"
    case userUnknown = "USER_UNKNOWN"
    case terminalInvalid = "TERMINAL_INVALID"
    case runAsDenied = "RUN_AS_DENIED"
    case notPermitted = "NOT_PERMITTED"
    case tooManyProcesses = "TOO_MANY_PROCESSES"
    case quotaExceeded = "QUOTA_EXCEEDED"
    case inputMemoryExhausted = "INPUT_MEMORY_EXHAUSTED"
    case requestKeyReused = "REQUEST_KEY_REUSED"
    case hostUnresponsive = "HOST_UNRESPONSIVE"
    case cordoned = "CORDONED"
    case wrongNode = "WRONG_NODE"
    case processNotFound = "PROCESS_NOT_FOUND"
    case cursorInvalid = "CURSOR_INVALID"
    case limitInvalid = "LIMIT_INVALID"
    case replayWindowExpired = "REPLAY_WINDOW_EXPIRED"
    case stdinClosed = "STDIN_CLOSED"
    case processNotRunning = "PROCESS_NOT_RUNNING"
    case stdinGap = "STDIN_GAP"
    case noTerminal = "NO_TERMINAL"
    case signalInvalid = "SIGNAL_INVALID"
    case waitTimedOut = "WAIT_TIMED_OUT"
    case processRunning = "PROCESS_RUNNING"

    // Of the gateway, for any method.
    case tokenInvalid = "TOKEN_INVALID"
    case authenticationThrottled = "AUTHENTICATION_THROTTLED"
    case supervisorUnavailable = "SUPERVISOR_UNAVAILABLE"
    case requestInvalid = "REQUEST_INVALID"
    case sessionSuperseded = "SESSION_SUPERSEDED"

    /// The number of the gRPC code that goes with it.
    public var code: Int {
        switch self {
        case .commandRequired, .argumentsTooLong, .cwdInvalid, .envInvalid, .labelsInvalid,
            .requestKeyInvalid, .userUnknown, .terminalInvalid, .cursorInvalid, .limitInvalid,
            .signalInvalid, .requestInvalid:
            3  // INVALID_ARGUMENT
        case .waitTimedOut: 4  // DEADLINE_EXCEEDED
        case .processNotFound: 5  // NOT_FOUND
        case .requestKeyReused: 6  // ALREADY_EXISTS
        case .runAsDenied, .notPermitted: 7  // PERMISSION_DENIED
        case .tooManyProcesses, .quotaExceeded, .inputMemoryExhausted, .authenticationThrottled:
            8  // RESOURCE_EXHAUSTED
        case .stdinClosed, .processNotRunning, .noTerminal, .processRunning, .wrongNode:
            9  // FAILED_PRECONDITION
        case .sessionSuperseded: 10  // ABORTED
        case .replayWindowExpired, .stdinGap: 11  // OUT_OF_RANGE
        case .supervisorUnavailable, .hostUnresponsive, .cordoned: 14  // UNAVAILABLE
        case .tokenInvalid: 16  // UNAUTHENTICATED
        }
    }
}
