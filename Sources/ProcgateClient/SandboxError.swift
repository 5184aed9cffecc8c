// The error that this library throws. Knows the contract's reasons, not how calls are made.

public import GRPCWire

/// What kept a command from running or from being known.
///
/// It is thrown for everything but the cancellation of the caller's own task, which is a
/// `CancellationError`. A command that ends with any exit code, by a signal or by its timeout is a
/// ``ProcessResult``, never an error.
///
/// ```swift
/// do {
///     _ = try await sandbox.exec("id", runAs: "nobody")
/// } catch let error as SandboxError where error.reason == .runAsDenied {
///     print(error.message)
/// }
/// ```
///
/// Signatures say `throws` and not `throws(SandboxError)`: around calls of typed errors alone, a
/// `catch` with `as SandboxError` or `where` crashes the compiler of Swift 6.3.
public struct SandboxError: Error, Sendable, Hashable, CustomStringConvertible {
    public var reason: Reason
    /// The status of the gRPC call, or the one that says best what happened on this side.
    public var code: Code
    /// For people; not for programs to read.
    public var message: String
    /// Whether the same may succeed when it is asked for once more. What the library could
    /// repeat safely, it has already repeated for as long as `reconnectTimeout`.
    public var mayRetry: Bool
    /// The process in question, where it is known.
    public var processID: String?
    /// With ``Reason/replayWindowExpired``: the first chunk that can still be had.
    public var firstRetainedSeq: UInt64?

    public init(
        _ reason: Reason, _ message: String, code: GRPCCode? = nil, processID: String? = nil
    ) {
        self.reason = reason
        self.code = code ?? reason.code
        self.message = message
        mayRetry = reason.mayRetry
        self.processID = processID
    }

    public var description: String { "\(message) (\(reason.rawValue))" }
}

extension SandboxError {
    /// Thrown inside the library where the caller's task was cancelled: see ``forCaller(_:)``.
    static func taskCancelled(_ processID: String? = nil) -> SandboxError {
        SandboxError(.cancelled, "the task was cancelled", processID: processID)
    }
}

/// What a public call throws for `error`: a cancelled task gets a `CancellationError`, as Swift code
/// expects.
func forCaller(_ error: any Error) -> any Error {
    guard let known = error as? SandboxError, known.reason == .cancelled, Task.isCancelled else {
        return error
    }
    return CancellationError()
}

extension SandboxError {
    /// The status codes of gRPC.
    public typealias Code = GRPCCode

    /// Why: the contract's reasons by their names on the wire, and those of this side.
    public enum Reason: String, Sendable, Hashable, CaseIterable {
        // What was asked for cannot be.
        /// There is no command.
        case commandRequired = "COMMAND_REQUIRED"
        /// The command, its arguments and its environment are more than the host takes.
        case argumentsTooLong = "ARGUMENTS_TOO_LONG"
        /// The working directory cannot be used.
        case cwdInvalid = "CWD_INVALID"
        /// A variable of the environment has no valid name or value.
        case envInvalid = "ENV_INVALID"
        /// The labels are larger than 256 KiB in all.
        case labelsInvalid = "LABELS_INVALID"
        /// The request key is longer than 256 bytes.
        case requestKeyInvalid = "REQUEST_KEY_INVALID"
        /// The host has no such user as `runAs` names.
        case userUnknown = "USER_UNKNOWN"
        /// The size is none that a terminal can have.
        case terminalInvalid = "TERMINAL_INVALID"
        /// The cursor is not one that a listing gave.
        case cursorInvalid = "CURSOR_INVALID"
        /// A limit is out of its range.
        case limitInvalid = "LIMIT_INVALID"
        /// The host has no such signal.
        case signalInvalid = "SIGNAL_INVALID"
        /// The messages of the call do not make a request, or come in the wrong order.
        case requestInvalid = "REQUEST_INVALID"
        /// Refused for something that has no name of its own.
        case invalidArgument = "INVALID_ARGUMENT"

        // The caller is not allowed to.
        /// The gateway does not run commands as that user.
        case runAsDenied = "RUN_AS_DENIED"
        /// The gateway's policy does not give this caller the right to make the call.
        case notPermitted = "NOT_PERMITTED"
        /// The gateway does not accept the token.
        case tokenInvalid = "TOKEN_INVALID"
        /// The gateway has refused this host's tokens too often; it accepts another try a second
        /// later.
        case authenticationThrottled = "AUTHENTICATION_THROTTLED"
        /// Refused to this caller.
        case permissionDenied = "PERMISSION_DENIED"

        // It does not go with how things stand.
        /// There is no such process, or it was forgotten.
        case processNotFound = "PROCESS_NOT_FOUND"
        /// The process has ended.
        case processNotRunning = "PROCESS_NOT_RUNNING"
        /// The process has not ended yet.
        case processRunning = "PROCESS_RUNNING"
        /// The process takes no more input.
        case stdinClosed = "STDIN_CLOSED"
        /// The write begins behind what has been written so far.
        case stdinGap = "STDIN_GAP"
        /// The process has no terminal.
        case noTerminal = "NO_TERMINAL"
        /// The session was lost, and the caller has continued without it.
        case sessionSuperseded = "SESSION_SUPERSEDED"
        /// The request key came with another request before.
        case requestKeyReused = "REQUEST_KEY_REUSED"
        /// It cannot be done as things stand, for a reason without a name of its own.
        case failedPrecondition = "FAILED_PRECONDITION"
        /// The output asked for has been dropped; ``SandboxError/firstRetainedSeq`` is what is
        /// left.
        case replayWindowExpired = "REPLAY_WINDOW_EXPIRED"
        /// The time that `wait` was given ran out; the process goes on.
        case waitTimedOut = "WAIT_TIMED_OUT"

        /// The process, or the node that the call names, belongs to another node of the fleet.
        case wrongNode = "WRONG_NODE"

        // There is no room, now.
        /// As many processes run and wait as the gateway allows.
        case tooManyProcesses = "TOO_MANY_PROCESSES"
        /// The caller's own limit is reached; the message names it.
        case quotaExceeded = "QUOTA_EXCEEDED"
        /// Input that processes have not read yet fills the gateway's budget for it.
        case inputMemoryExhausted = "INPUT_MEMORY_EXHAUSTED"
        /// A directory or the user service of the gateway's host does not answer. Nothing was
        /// started.
        case hostUnresponsive = "HOST_UNRESPONSIVE"
        /// The gateway accepts no new processes until it is uncordoned.
        case cordoned = "CORDONED"
        /// The gateway or its host has run out of something.
        case resourceExhausted = "RESOURCE_EXHAUSTED"
        /// The gateway does not reach the supervisor of the processes.
        case supervisorUnavailable = "SUPERVISOR_UNAVAILABLE"

        // Of this side.
        /// The gateway's address cannot be understood.
        case invalidAddress = "INVALID_ADDRESS"
        /// What answers at the address speaks something else: no TLS where the address says
        /// `https`, no HTTP/2, or HTTP that is not gRPC.
        case notGateway = "NOT_A_GATEWAY"
        /// No root that is trusted has issued the gateway's certificate, or it is out of date.
        case certificateUntrusted = "CERTIFICATE_UNTRUSTED"
        /// TLS could not be agreed upon, the gateway's certificate is for another host name, or a
        /// certificate, key or root that was given could not be used, which has the code
        /// `invalidArgument`. Where it is the gateway that demands another client certificate:
        /// ``permissionDenied``.
        case tlsFailed = "TLS_FAILED"
        /// The gateway has TLS, and its address was given without: write `https://`.
        case tlsRequired = "TLS_REQUIRED"
        /// No answer for as long as `reconnectTimeout`.
        case gatewayUnavailable = "GATEWAY_UNAVAILABLE"
        /// ``Sandbox/close()`` was called.
        case closed = "CLOSED"
        /// The gateway or a proxy cancelled the call. Where the caller's own task was cancelled, the
        /// call throws `CancellationError` instead.
        case cancelled = "CANCELLED"
        /// The time of the call ran out.
        case deadlineExceeded = "DEADLINE_EXCEEDED"
        /// The gateway was out of reach for longer than it waits for the caller of an `exec`, or a
        /// proxy cancelled its call: the gateway killed the command.
        case callerGone = "CALLER_GONE"
        /// More output than `maxOutputBytes`. The process was killed.
        case outputLimitExceeded = "OUTPUT_LIMIT_EXCEEDED"
        /// The supervisor that ran the process is gone, and how it ended with it.
        case processLost = "PROCESS_LOST"
        /// Output is missing that should have been there.
        case outputGap = "OUTPUT_GAP"
        /// The stdin that was given threw an error of its own.
        case callerFailed = "CALLER_FAILED"
        /// The gateway answered what the contract does not allow, or this client does not know.
        case protocolViolation = "PROTOCOL_VIOLATION"
        /// The gateway does not know this call.
        case unimplemented = "UNIMPLEMENTED"
        /// The gateway failed.
        case internalError = "INTERNAL"
        /// What happened has no name.
        case unknown = "UNKNOWN"

        /// The gRPC status that goes with it.
        public var code: GRPCCode {
            switch self {
            case .commandRequired, .argumentsTooLong, .cwdInvalid, .envInvalid, .labelsInvalid,
                .requestKeyInvalid, .userUnknown, .terminalInvalid, .cursorInvalid,
                .limitInvalid, .signalInvalid, .requestInvalid, .invalidArgument, .invalidAddress:
                .invalidArgument
            case .runAsDenied, .notPermitted, .permissionDenied: .permissionDenied
            case .tokenInvalid: .unauthenticated
            case .processNotFound: .notFound
            case .processNotRunning, .processRunning, .stdinClosed, .noTerminal,
                .wrongNode, .failedPrecondition:
                .failedPrecondition
            case .requestKeyReused: .alreadyExists
            case .stdinGap, .replayWindowExpired: .outOfRange
            case .waitTimedOut, .deadlineExceeded: .deadlineExceeded
            case .tooManyProcesses, .quotaExceeded, .inputMemoryExhausted,
                .authenticationThrottled, .resourceExhausted, .outputLimitExceeded:
                .resourceExhausted
            case .supervisorUnavailable, .hostUnresponsive, .cordoned, .gatewayUnavailable,
                .notGateway, .certificateUntrusted, .tlsFailed, .tlsRequired:
                .unavailable
            case .closed, .cancelled: .cancelled
            case .callerGone, .sessionSuperseded: .aborted
            case .processLost, .outputGap: .dataLoss
            case .callerFailed, .unknown: .unknown
            case .unimplemented: .unimplemented
            case .protocolViolation, .internalError: .internal
            }
        }

        /// Whether the same may succeed when it is asked for once more.
        public var mayRetry: Bool {
            switch self {
            case .tooManyProcesses, .quotaExceeded, .inputMemoryExhausted,
                .authenticationThrottled, .resourceExhausted, .supervisorUnavailable,
                .hostUnresponsive, .cordoned, .gatewayUnavailable, .waitTimedOut, .deadlineExceeded:
                true
            default: false
            }
        }
    }
}
