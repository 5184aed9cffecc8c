// How a process is made to end: TERM, a grace time, KILL, and what it is called
// afterwards. Pure.

import LinuxIO

/// Why a process was made to end.
enum StopCause: Equatable {
    case stopped
    case timeout
    case callerGone
    case shutdown
    /// The command has ended by itself; what it left behind must go.
    case descendants
}

///     none ──request──> terminating(killAt) ──due──> killing
///       └───────request without grace──────────────────^
struct StopPlan {
    enum Stage: Equatable {
        case none
        case terminating(killAt: Instant)
        case killing
    }

    enum Action: Equatable {
        case nothing
        /// Send TERM, and come back at `killAt`.
        case terminate(killAt: Instant)
        /// TERM was sent before; come back at `killAt`, earlier than planned.
        case hasten(killAt: Instant)
        case kill
    }

    private(set) var stage = Stage.none
    /// The first one counts; but where a process runs into its timeout before it is killed, it
    /// has timed out, whatever it was asked before.
    private(set) var cause: StopCause?

    var isStopping: Bool { stage != .none }

    private var isTerminating: Bool {
        if case .terminating = stage { return true }
        return false
    }

    mutating func request(_ cause: StopCause, grace: Duration, now: Instant) -> Action {
        if self.cause == nil || (cause == .timeout && isTerminating) { self.cause = cause }
        let killAt = now + grace
        switch stage {
        case .killing:
            return .nothing
        case .none where grace <= .zero, .terminating where grace <= .zero:
            stage = .killing
            return .kill
        case .none:
            stage = .terminating(killAt: killAt)
            return .terminate(killAt: killAt)
        case .terminating(let planned):
            guard killAt < planned else { return .nothing }
            stage = .terminating(killAt: killAt)
            return .hasten(killAt: killAt)
        }
    }

    /// The grace time may be over.
    mutating func due(now: Instant) -> Action {
        guard case .terminating(let killAt) = stage, killAt <= now else { return .nothing }
        stage = .killing
        return .kill
    }
}
