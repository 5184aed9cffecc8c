// A process as it stood when the gateway answered: a plain value, which never asks again.

internal import ProcgateV1

/// Milliseconds since the Unix epoch.
public typealias UnixMilliseconds = Int64

/// What a process used. Zero where the gateway cannot tell.
public struct ResourceUsage: Sendable, Hashable {
    /// User and system time, of the whole tree where the gateway can tell.
    public var cpuTime: Duration
    /// The most memory at any time.
    public var peakMemoryBytes: Int
}

/// How far a gateway can hold a process to its limits.
public enum LimitsEnforcement: String, Sendable, Hashable, CaseIterable {
    /// Not at all.
    case notEnforced = "none"
    /// For each process of the tree by itself.
    case rlimit
    /// For the tree together.
    case cgroup

    init?(_ wire: ProcgateV1.LimitsEnforcement) {
        switch wire {
        case .none: self = .notEnforced
        case .rlimit: self = .rlimit
        case .cgroup: self = .cgroup
        case .unspecified, .unrecognized: return nil
        }
    }
}

/// A process as it stood when the gateway answered.
public struct ProcessSummary: Sendable, Hashable, Identifiable {
    /// The gateway's name for it.
    public var id: String
    /// Where it stands.
    public var status: ProcessStatus
    /// As it was given, as are its arguments.
    public var command: String
    /// Without the name of the command.
    public var arguments: [String]
    /// Where it was started.
    public var cwd: String
    /// The user that it runs as.
    public var runAs: String
    /// The caller's own.
    public var labels: [String: String]
    /// `nil` until it runs.
    public var pid: Int?
    /// Set once it has ended by itself.
    public var exitCode: Int?
    /// The number, on the gateway's host, of the signal that ended it: 9 for KILL.
    public var signalNumber: Int?
    /// That signal: `"SIGKILL"`.
    public var signal: Signal?
    /// Why it could not be run.
    public var error: String?
    /// When the gateway accepted it.
    public var createdAt: UnixMilliseconds
    /// `nil` until it happens, as for those below.
    public var startedAt: UnixMilliseconds?
    /// When it ended.
    public var endedAt: UnixMilliseconds?
    /// When an ended process is forgotten.
    public var expiresAt: UnixMilliseconds?
    /// Why it ended.
    public var terminationReason: TerminationReason?
    /// What it used, once it has ended.
    public var usage: ResourceUsage?
    /// How far its limits are kept.
    public var limitsEnforced: LimitsEnforcement?
    /// The first and last of the chunks that can be replayed; 0 where there are none.
    public var firstRetainedSeq: UInt64
    /// See ``firstRetainedSeq``.
    public var lastSeq: UInt64
    /// Bytes ever written, retained or not.
    public var stdoutByteCount: Int
    /// As ``stdoutByteCount``.
    public var stderrByteCount: Int
    /// Bytes of stdin accepted so far: the offset at which a writer goes on.
    public var stdinByteCount: Int
    /// Whether it takes no more input.
    public var stdinClosed: Bool
    /// A descendant was alive when the command ended.
    public var descendantsAlive: Bool
    /// Who started it, where callers have an identity; else empty.
    public var owner: String

    /// `nil` where the status is one that this client does not know.
    init?(_ wire: ProcgateV1.Process) {
        guard let status = ProcessStatus(wire.status), !wire.id.isEmpty else { return nil }
        id = wire.id
        self.status = status
        command = wire.command
        arguments = wire.args
        cwd = wire.cwd
        runAs = wire.runAs
        labels = wire.labels
        pid = wire.pid == 0 ? nil : Int(wire.pid)
        switch wire.outcome {
        case .exitCode(let code): exitCode = Int(code)
        case .signal(let number): signalNumber = Int(number)
        case .error(let message): error = message
        case nil: break
        }
        signal = wire.signalName.isEmpty ? nil : Signal(wire.signalName)
        createdAt = wire.createdAt
        startedAt = wire.startedAt == 0 ? nil : wire.startedAt
        endedAt = wire.endedAt == 0 ? nil : wire.endedAt
        expiresAt = wire.expiresAt == 0 ? nil : wire.expiresAt
        terminationReason = TerminationReason(wire.terminationReason)
        usage = wire.usage.map {
            ResourceUsage(
                cpuTime: .milliseconds(Int64(clamping: $0.cpuTimeMs)),
                peakMemoryBytes: Int(clamping: $0.peakMemoryBytes))
        }
        limitsEnforced = LimitsEnforcement(wire.limitsEnforced)
        firstRetainedSeq = wire.firstRetainedSeq
        lastSeq = wire.lastSeq
        stdoutByteCount = Int(clamping: wire.stdoutBytes)
        stderrByteCount = Int(clamping: wire.stderrBytes)
        stdinByteCount = Int(clamping: wire.stdinBytes)
        stdinClosed = wire.stdinClosed
        descendantsAlive = wire.descendantsAlive
        owner = wire.owner
    }
}
