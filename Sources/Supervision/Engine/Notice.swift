// What goes in and out of a supervisor: requests, answers and news, as values. Knows no
// encoding and no socket.

public import LinuxIO
public import OutputLog
public import ProcgateV1

public struct StartRequest: Sendable {
    public var spec: ProcessSpec
    public var requestKey = ""
    /// Who asks; keys of different owners are different.
    public var owner = ""
    public var stdin = StdinSource.pipe
    /// What no reader has taken holds the process back.
    public var held = false
    /// Nothing is started where the key is not known.
    public var joinsOnly = false
    public var policy = OwnerPolicy.none
    /// Follow the log from the answer on.
    public var follow = false
    /// The supervisor that the caller means; empty is any.
    public var instance = ""
    /// The time at which its caller waits no longer, of the monotonic clock.
    public var expiresAt: Instant?

    public init(spec: ProcessSpec) {
        self.spec = spec
    }
}

public struct StdinWrite: Sendable {
    public var data: [UInt8] = []
    /// Close after the data.
    public var eof = false
    /// Where the data begins in all of stdin.
    public var offset: UInt64?
    /// The number of the call, on the same link, whose place it takes.
    public var resumes: UInt64 = 0
    /// A terminal has no end to close: refuse, rather than send its character.
    public var refusesTerminalEOF = false

    public init() {}
}

public struct ListFilter: Sendable {
    /// Any of these; none is all.
    public var statuses: [ProcessStatus] = []
    public var limit = 100
    /// Only lower serials; 0 is all.
    public var beforeSerial: UInt64 = 0
    /// Milliseconds since the epoch; 0 is unbounded.
    public var createdAfter: Int64 = 0
    public var createdBefore: Int64 = 0
    /// All of these.
    public var labels: [String: String] = [:]

    public init() {}
}

/// A log as a new follower finds it.
public struct LogSnapshot: Sendable {
    public var segments: [LogSegment]
    /// Of the first retained record in the first segment.
    public var firstOffset: Int
    public var firstSeq: UInt64
    public var lastSeq: UInt64
}

public struct StartedAnswer: Sendable {
    public var process: Process
    public var serial: UInt64
    public var log: LogSnapshot?
    public var joined = false
    public var ended = false
    /// The command runs for a caller that is owed its end: told a moment later, the start of a
    /// short one leaves together with that.
    public var canWait = false
}

/// What becomes of a start.
public struct AdmissionState: Sendable, Equatable {
    /// New processes are refused.
    public var isCordoned: Bool
    /// A process that is started now runs at once.
    public var hasPlace: Bool
}

/// How things stand.
public struct Census: Sendable {
    public var processes: [ProcessStatus: Int] = [:]
    /// Of the arena, in use.
    public var outputBytes = 0
    /// Commands that were executed since the start, and what their launches took together.
    public var spawned: UInt64 = 0
    public var spawnTime: Duration = .zero
    /// Processes that ended since the start.
    public var ended: [TerminationReason: UInt64] = [:]
}

/// The answer to one call.
public enum Answer: Sendable {
    case failure(Refusal)
    indirect case started(StartedAnswer)
    indirect case process(Process)
    case list([(serial: UInt64, process: Process)], more: Bool)
    /// Of all of stdin so far.
    case stdin(bytes: UInt64)
    /// There was no memory to keep what the process has not read: the write is to be sent again,
    /// without the bytes that were taken.
    case stdinAgain(bytes: UInt64, taken: Int)
    case done
    /// Every process has ended, but for those that the host does not let end.
    case shutDown(uninterruptible: [Int32])
    case census(Census)
}

/// What a link is told.
public enum Notice: Sendable {
    case reply(call: UInt64, Answer)
    case appended(serial: UInt64, LogCommit)
    case retired(serial: UInt64, ordinal: UInt64)
    indirect case running(serial: UInt64, Process)
    indirect case ended(serial: UInt64, Process)
    indirect case changed(Process)
    case forgotten(id: String, serial: UInt64)
    case admission(AdmissionState)
    /// Its output was given up, its result is remembered.
    case outputForgotten(id: String, serial: UInt64)
}
