// One process from its admission until it is forgotten: the state that the supervisor
// keeps of it. Decides nothing by itself.

import CLinux
import DequeModule
import Glibc
import LinuxIO
import OutputLog
import ProcgateV1

///     queued ──> launching ──> running ──> ended
///       └──────────────┴────────────────────^
enum ProcessPhase {
    case queued
    case launching
    case running
    case ended
}

final class SupervisedProcess {
    let serial: UInt64
    /// Where it has a request key.
    let digest: SpecDigest?
    /// By which a start can be repeated.
    let key: StartKey?
    /// What it holds of the input budget, apart from the writes that wait.
    var inputBytes = 0
    var phase = ProcessPhase.queued
    /// As callers see it, apart from what the log and stdin count.
    var record: Process
    /// A caller knows of it.
    var isAnnounced = false

    // Until it runs.
    var plan: LaunchPlan?
    var stdinSource: StdinSource
    let limits: ResourceLimits?
    /// Starts that wait for the launch.
    var waitingStarts: [(call: CallID, follow: Bool, joined: Bool)] = []
    var launchedAt: Instant?
    var launchCount = 0
    /// Asked for while it was being launched.
    var stopAfterLaunch: (cause: StopCause, grace: Duration)?
    /// Its child was killed before it had executed the command.
    var wasKilledLate = false

    // While it runs.
    var pidfd: FileDescriptor?
    var tree: ProcessTree?
    var stdout: OutputPipe?
    var stderr: OutputPipe?
    let stdin = StdinFeed()
    let timeout: Duration?
    let queueTimeout: Duration?
    let grace: Duration
    let killsDescendants: Bool
    let isTerminal: Bool
    var stopPlan = StopPlan()
    /// Members of its tree that TERM was sent to.
    var terminated: Set<pid_t> = []
    /// How often members were looked for that came after that.
    var terminationRounds = 0
    /// When its tree was last sent KILL for the first time.
    var killedAt = Instant.now()
    var treeIsWatched = false

    // After the command.
    var commandEndedAt: Instant?
    var exit: clinux_exit?
    var lastOutputAt: Instant?
    /// Of what was in the pipes when the command was reaped: not read yet.
    var unreadAtEnd = 0
    /// Its pipes were looked at once more since they were last read.
    var hasLookedLate = false
    /// Nothing of its tree was left when the command was reaped, so nothing can be later.
    var treeWasGoneAtEnd = false
    var ranOutOfMemory = false
    /// How the descendants that the ended command left are made to end.
    var descendantStop = StopPlan()
    /// It counts among the running for as long as its descendants live.
    var keepsPlace = false

    // Output and its readers.
    let log: LogWriter
    /// One record takes at most this, so that a short retention keeps some.
    let recordLimit: Int
    let holdsWhenFull: Bool
    /// It was started by a call that owns it; others only join that.
    let isOwnable: Bool
    /// What is kept once no caller can come back.
    let retainBytes: Int
    /// Links that follow the log, and how often.
    var followers: [UInt64: Int] = [:]
    /// Links that have ended while they followed the log, whose gateways may read it still: each
    /// with the first segment that it was not told of.
    var ghosts: [UInt64: UInt64] = [:]
    var retired = RetiredSegments()
    var owners = Ownership()
    /// In the ledger of those that will be forgotten.
    var isRemembered = false
    var awaiting: [CallID] = []
    var stopping: [CallID] = []

    var timers = ProcessTimers()

    init(
        serial: UInt64, id: String, request: StartRequest, plan: LaunchPlan,
        digest: SpecDigest?,
        arena: Arena, configuration: SupervisorConfiguration
    ) {
        self.serial = serial
        self.digest = digest
        self.plan = plan
        key = request.requestKey.isEmpty ? nil : request.key
        stdinSource = request.stdin
        let spec = request.spec
        limits = spec.limits
        timeout = spec.timeoutMs > 0 ? .milliseconds(clamping: spec.timeoutMs) : nil
        queueTimeout = spec.queueTimeoutMs > 0 ? .milliseconds(clamping: spec.queueTimeoutMs) : nil
        grace =
            spec.graceMs > 0 ? .milliseconds(clamping: spec.graceMs) : configuration.gracePeriod
        killsDescendants = spec.killDescendants
        isTerminal = plan.terminal != nil
        // No process alone may ask for more than half of what all have together.
        retainBytes = min(
            (spec.output?.retainBytes).flatMap { $0 > 0 ? Int(clamping: $0) : nil }
                ?? configuration.retainBytes,
            max(SupervisorConfiguration.mostPipedBytes, configuration.maxOutputMemory / 2))
        holdsWhenFull = spec.output?.holdWhenFull ?? false
        let isResumable = holdsWhenFull || request.held && !request.requestKey.isEmpty
        log = LogWriter(
            arena: arena,
            retainBytes: isResumable
                ? max(retainBytes, SupervisorConfiguration.resumableBytes) : retainBytes)
        recordLimit = max(4096, min(RecordLayout.maxDataCount, retainBytes / 4))
        isOwnable = request.policy != .none
        log.isHeld = request.held || holdsWhenFull
        record = Process()
        record.id = id
        record.status = .queued
        record.command = spec.command
        record.args = spec.args
        record.labels = spec.labels
        record.cwd = plan.directory
        record.runAs = plan.user.name
        record.owner = request.owner
        record.createdAt = wallClockMilliseconds()
    }

    var id: String { record.id }

    /// What it costs beside its output: this object and its tables, and what it was called with.
    var recordBytes: Int { Self.fixedBytes + record.approximateBytes + (key?.key.count ?? 0) }

    private static let fixedBytes = 2048

    var outputs: [OutputPipe] { [stdout, stderr].compactMap { $0 } }

    func output(_ stream: OutputStreamKind) -> OutputPipe? {
        stream == .stdout ? stdout : stderr
    }

    /// Unreleased output fills its window. What the command left in its pipes is read beyond
    /// that, so that its end depends on no reader. `memoryIsScarce`: all output together is more
    /// than it may be; who waits for a reader then waits with less, so that others go on.
    func isHeldBack(memoryIsScarce: Bool) -> Bool {
        guard log.isHeld else { return false }
        let own = holdsWhenFull ? retainBytes : SupervisorConfiguration.holdWindowBytes
        let window = memoryIsScarce ? min(own, SupervisorConfiguration.scarceWindowBytes) : own
        guard commandEndedAt != nil else { return log.unreleasedBytes >= max(window, 1) }
        // Who is being stopped ends, whether or not somebody reads.
        if stopPlan.isStopping { return false }
        return unreadAtEnd == 0 && log.unreleasedBytes >= max(window, 1)
    }

    var snapshot: Process {
        var process = record
        process.firstRetainedSeq = log.lastSeq == 0 ? 0 : log.firstRetainedSeq
        process.lastSeq = log.lastSeq
        process.stdoutBytes = log.stdoutBytes
        process.stderrBytes = log.stderrBytes
        process.stdinBytes = stdin.window.accepted
        process.stdinClosed = stdin.window.isClosed
        return process
    }

    var logSnapshot: LogSnapshot {
        LogSnapshot(
            segments: Array(log.segments), firstOffset: log.firstOffset,
            firstSeq: log.firstRetainedSeq, lastSeq: log.lastSeq)
    }

    /// Links that hear of its start and end.
    var interestedLinks: Set<UInt64> {
        Set(followers.keys).union(owners.calls.map(\.link))
    }
}

/// What is set of a process's timers.
struct ProcessTimers {
    var timeout: TimerID?
    var queue: TimerID?
    var launch: TimerID?
    var kill: TimerID?
    var drain: TimerID?
    var resume: TimerID?
    var sweep: TimerID?
    var terminate: TimerID?
    var unkillable: TimerID?
    var asked: TimerID?
}

/// The end of a pipe or a terminal that a process prints to.
final class OutputPipe {
    enum State {
        /// Until the next edge.
        case idle
        /// In the run queue.
        case queued
        /// Until its timer.
        case paced
        /// Until a reader, or the arena, has room.
        case held
    }

    let descriptor: FileDescriptor
    let stream: OutputStreamKind
    let isTerminal: Bool
    var state = State.idle
    var pacing = ReadPacing()
    var hasGrown = false
    /// Not polled for input: its timer looks at it.
    var isMuted = false
    /// Its writers have gone: read on to the end.
    var sawHangUp = false
    /// Was read, and found no room in the arena.
    var stash: [UInt8] = []

    init(_ descriptor: consuming FileDescriptor, stream: OutputStreamKind, isTerminal: Bool) {
        self.descriptor = descriptor
        self.stream = stream
        self.isTerminal = isTerminal
    }
}

/// What waits to be written to a process.
final class StdinFeed {
    struct PendingWrite {
        /// `nil` for bytes that came with the start.
        let call: CallID?
        /// `nil` where there was no memory to keep them: they are asked for again in their turn.
        var data: [UInt8]?
        /// They were asked for: this keeps the place until they come.
        var isAsked = false
        let eof: Bool
        let offset: UInt64?
        /// Of an Attach.
        let isSession: Bool
        /// Bytes of `data` that were taken or skipped; `nil` until its turn.
        var done: Int?
        /// Bytes that are charged to the input budget.
        var charged = 0

        init(
            call: CallID?, data: [UInt8], eof: Bool, offset: UInt64?, isSession: Bool
        ) {
            self.call = call
            self.data = data
            self.eof = eof
            self.offset = offset
            self.isSession = isSession
        }
    }

    var window = StdinWindow()
    var pending: Deque<PendingWrite> = []
    /// The pipe's end; a terminal's master belongs to its OutputPipe.
    var pipe: FileDescriptor?
    var isPolled = false
    /// Its pipe is as large as it gets.
    var hasGrown = false
    /// The last byte written was no end of a line.
    var lineIsOpen = false

    /// Bytes that came with the start and that wait; those of writes are charged one by one.
    var heldBytes: Int {
        pending.reduce(0) { $0 + ($1.call == nil ? $1.data?.count ?? 0 : 0) }
    }
}
