// What a supervisor is told when it starts. Knows no command line.

/// Limits and defaults of one supervisor. The defaults are those of the command line.
public struct SupervisorConfiguration: Sendable {
    /// Holds the socket and the lock; 0700, the supervisor's own.
    public var stateDirectory: String
    /// Runs commands without arguments.
    public var shell = "/bin/sh"
    /// The user for commands whose request sets no `run_as`; empty is the supervisor's own.
    public var defaultUser = ""
    /// Processes at once.
    public var maxRunning = 1024
    /// Processes that wait for a place.
    public var maxQueued = 4096
    /// Between TERM and KILL, where the process names none.
    public var gracePeriod: Duration = .seconds(5)
    /// How long a keyed process waits for a caller that was lost.
    public var resumeWindow: Duration = .seconds(10)
    /// Output kept for each process, in bytes.
    public var retainBytes = 8 << 20
    /// How long an ended process is remembered.
    public var retainTime: Duration = .seconds(600)
    /// Of all retained output together, in bytes.
    public var maxOutputMemory = 1 << 30
    /// Of stdin, arguments and environments of all processes together, in bytes.
    public var maxInputMemory = 256 << 20
    /// The name of this node in a fleet, with which process ids begin; may be empty.
    public var node = ""
    /// Told to gateways.
    public var version = "0.1.0"
    /// A gateway has started it, and may stop it when it ends.
    public var isOfGateway = false
    /// Processes are kept together by a cgroup each where the host has cgroup v2; without
    /// it, or where this is `false`, by an inherited mark. For tests of the latter.
    public var usesCgroups = true

    public init(stateDirectory: String) {
        self.stateDirectory = stateDirectory
    }

    /// What a process whose output is held may print before a reader has taken it: no more than a
    /// core has cache for, so that what is sent is still there.
    static let holdWindowBytes = 1 << 20
    /// The same while all output together is more than it may be: what a reader that keeps up
    /// needs.
    static let scarceWindowBytes = 256 << 10
    /// What is kept at least of a process whose caller may come back and go on after the
    /// last chunk that it saw: what a gateway had handed to its socket may have been on its
    /// way in both kernels (10 MiB by Linux's defaults) and in the caller.
    static let resumableBytes = 32 << 20
    /// What two pipes of the largest size hold.
    static let mostPipedBytes = 2 << 20
}
