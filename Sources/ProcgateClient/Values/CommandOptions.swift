// What of a command is not its name: small values, and the contract's message made of them.

internal import ProcgateV1

/// How much a process may take. `nil` is no limit.
public struct ResourceLimits: Sendable, Hashable {
    /// Memory, in bytes.
    public var memoryBytes: Int?
    /// Thousandths of one core.
    public var cpuMillis: Int?
    /// Processes and threads at one time.
    public var maxProcesses: Int?

    /// Each `nil` is no limit.
    public init(memoryBytes: Int? = nil, cpuMillis: Int? = nil, maxProcesses: Int? = nil) {
        self.memoryBytes = memoryBytes
        self.cpuMillis = cpuMillis
        self.maxProcesses = maxProcesses
    }
}

/// Who reads the command's text.
public enum Shell: String, Sendable, Hashable, CaseIterable {
    /// `sh -c` where there are no arguments, else none.
    case automatic
    /// The command is a program's name, executed directly.
    case none
    /// `sh -c`, even where there are arguments.
    case sh
    /// The user's login shell, with `-l -c`.
    case login

    var wire: ProcgateV1.Shell {
        switch self {
        case .automatic: .unspecified
        case .none: .none
        case .sh: .sh
        case .login: .login
        }
    }
}

/// The size of a terminal, in characters.
public struct TerminalSize: Sendable, Hashable {
    /// Characters in a line.
    public var columns: Int
    /// Lines.
    public var rows: Int

    /// In characters.
    public init(columns: Int, rows: Int) {
        self.columns = columns
        self.rows = rows
    }

    var wire: ProcgateV1.TerminalSize {
        var wire = ProcgateV1.TerminalSize()
        wire.columns = UInt32(clamping: columns)
        wire.rows = UInt32(clamping: rows)
        return wire
    }
}

/// How a command is run: what `exec`, `start`, `execStream` and `attach` take one by one, as one
/// value. `nil` and empty mean the gateway's default.
public struct CommandOptions: Sendable, Hashable {
    /// Absolute, or relative to the user's home, which is the default.
    public var cwd: String?
    /// Added to the base environment: PATH, HOME, USER, LOGNAME, SHELL, LANG.
    public var env: [String: String] = [:]
    /// From the start of the process. At its end the tree gets TERM, then KILL, and the result's
    /// status is ``ProcessStatus/timedOut``.
    public var timeout: Duration?
    /// A user's name or numeric id.
    public var runAs: String?
    /// Yours, to find the process again.
    public var labels: [String: String] = [:]
    /// How much it may take.
    public var limits: ResourceLimits?
    /// Who reads the command's text.
    public var shell: Shell = .automatic
    /// Start from `env` alone.
    public var clearEnv = false
    /// Between TERM and KILL.
    public var grace: Duration?
    /// The longest wait in the queue; at its end the status is ``ProcessStatus/failed``.
    public var queueTimeout: Duration?
    /// Output kept for replay, in bytes.
    public var retainBytes: Int?
    /// When that is full, hold the process back until a reader has caught up, rather than drop
    /// the oldest. `exec` always does.
    public var holdWhenFull = false
    /// Kill what is left of the tree once the command itself has ended.
    public var killDescendants = false
    /// A pseudo-terminal of this size in place of three pipes.
    public var terminal: TerminalSize?
    /// Let setuid programs such as `sudo` gain privileges. Without it, a process that does not run
    /// as root cannot.
    public var allowNewPrivileges = false

    /// The gateway's defaults.
    public init() {}

    func spec(_ command: String, _ arguments: [String]) -> ProcessSpec {
        var spec = ProcessSpec()
        spec.command = command
        spec.args = arguments
        spec.cwd = cwd ?? ""
        spec.env = env
        spec.timeoutMs = timeout?.wireMilliseconds ?? 0
        spec.runAs = runAs ?? ""
        spec.terminal = terminal?.wire
        spec.labels = labels
        if let limits {
            var wire = ProcgateV1.ResourceLimits()
            wire.memoryBytes = UInt64(clamping: limits.memoryBytes ?? 0)
            wire.cpuMillis = UInt32(clamping: limits.cpuMillis ?? 0)
            wire.maxProcesses = UInt32(clamping: limits.maxProcesses ?? 0)
            spec.limits = wire
        }
        spec.shell = shell.wire
        spec.clearEnv = clearEnv
        spec.graceMs = grace?.wireMilliseconds ?? 0
        spec.queueTimeoutMs = queueTimeout?.wireMilliseconds ?? 0
        if retainBytes != nil || holdWhenFull {
            var output = OutputPolicy()
            output.retainBytes = UInt64(clamping: retainBytes ?? 0)
            output.holdWhenFull = holdWhenFull
            spec.output = output
        }
        spec.killDescendants = killDescendants
        spec.allowNewPrivileges = allowNewPrivileges
        return spec
    }
}

extension Duration {
    /// Rounded up, at least 1: where the contract's 0 would mean "none" or "default".
    var wireMilliseconds: UInt64 { max(1, wholeMilliseconds) }

    /// Rounded up; 0 for what is negative.
    var wholeMilliseconds: UInt64 {
        let (seconds, attoseconds) = components
        guard seconds >= 0, attoseconds >= 0 else { return 0 }
        let rest = UInt64((attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)
        let (scaled, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1000)
        return overflow ? UInt64(Int64.max) : scaled + rest
    }
}
