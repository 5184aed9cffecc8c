// Where a process stands in its life, and why it ended.

internal import ProcgateV1

/// Where a process stands.
public enum ProcessStatus: String, Sendable, Hashable, CaseIterable {
    /// Accepted, waiting for a place among the running.
    case queued
    /// Started, and not reaped yet.
    case running
    /// Ended by itself, whatever its exit code.
    case exited
    /// Could not be run; `error` says why.
    case failed
    /// Ended by a signal, or taken out of the queue.
    case killed
    /// Ended by its own timeout, whatever it answered.
    case timedOut = "timed_out"

    /// Whether nothing changes any more.
    public var isFinal: Bool { self != .queued && self != .running }

    /// `nil` for a status that a newer gateway has and this client does not know.
    init?(_ wire: ProcgateV1.ProcessStatus) {
        switch wire {
        case .queued: self = .queued
        case .running: self = .running
        case .exited: self = .exited
        case .failed: self = .failed
        case .killed: self = .killed
        case .timedOut: self = .timedOut
        case .unspecified, .unrecognized: return nil
        }
    }

    var wire: ProcgateV1.ProcessStatus {
        switch self {
        case .queued: .queued
        case .running: .running
        case .exited: .exited
        case .failed: .failed
        case .killed: .killed
        case .timedOut: .timedOut
        }
    }
}

/// Why a process ended.
public enum TerminationReason: String, Sendable, Hashable, CaseIterable {
    case exited
    /// By a signal that was not the gateway's.
    case signalled
    /// By `stop`, `kill`, or a signal while it was queued.
    case stopped
    /// By its own timeout.
    case timeout
    /// The call that owned it was cancelled or lost its connection.
    case callerGone = "caller_gone"
    /// By the host, for want of memory.
    case outOfMemory = "out_of_memory"
    /// The gateway was shut down.
    case shutdown
    /// It could not be started.
    case startFailed = "start_failed"
    /// It waited in the queue for too long.
    case queueTimeout = "queue_timeout"
    /// Its supervisor is gone: how it ended is not known.
    case lost

    init?(_ wire: ProcgateV1.TerminationReason) {
        switch wire {
        case .exited: self = .exited
        case .signalled: self = .signalled
        case .stopped: self = .stopped
        case .timeout: self = .timeout
        case .callerGone: self = .callerGone
        case .outOfMemory: self = .outOfMemory
        case .shutdown: self = .shutdown
        case .startFailed: self = .startFailed
        case .queueTimeout: self = .queueTimeout
        case .lost: self = .lost
        case .unspecified, .unrecognized: return nil
        }
    }
}
