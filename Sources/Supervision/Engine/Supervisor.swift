// The supervisor: its processes, its loop, and who hears of them. Requests come in as
// method calls, news go out through `takeNotices`; it knows no socket and no encoding.
// What it does is in the files beside this one: starting, capturing, feeding, stopping,
// ending, owning, remembering, answering.

import CLinux
import DequeModule
import Glibc
public import LinuxIO
public import OutputLog
public import ProcgateV1

/// What an event of the poller is about; packed into its token with a number.
enum EventSource: UInt8 {
    /// Of whoever runs the supervisor: its sockets.
    case client
    case signals
    case launcher
    case exit
    case stdout
    case stderr
    case stdin
    case tree
    case userResolver
    case directoryResolver

    func token(_ number: UInt64) -> UInt64 { UInt64(rawValue) << 56 | number }

    static func parse(_ token: UInt64) -> (EventSource, UInt64)? {
        EventSource(rawValue: UInt8(token >> 56)).map { ($0, token & (1 << 56 - 1)) }
    }
}

enum TimerTarget {
    case timeout(UInt64)
    case queueTimeout(UInt64)
    case kill(UInt64)
    case drain(UInt64)
    case resume(UInt64)
    /// A tree without events is looked at again, while it is being killed.
    case sweep(UInt64)
    /// The same for a tree that outlives its command.
    case linger(UInt64)
    /// Members of a tree that were not sent TERM are looked for.
    case terminate(UInt64)
    /// A process that was killed should have ended.
    case unkillable(UInt64)
    case pace(UInt64, OutputStreamKind)
    /// A launch takes too long.
    case launch(UInt64)
    /// Input that was asked for again has not come.
    case asked(UInt64)
    /// Processes wait for the launcher.
    case launchLine
    /// There is no launcher, and another one is tried.
    case launcher
    /// Questions for users are late, or resolvers idle.
    case resolvers
    /// A shutdown has taken its time.
    case shutdownLimit
    /// Whoever belongs to no tree is looked for again.
    case strays
    /// Ended processes, free segments.
    case housekeeping
}

/// Not thread-safe: made, called and turned on one thread.
public final class Supervisor {
    let configuration: SupervisorConfiguration
    public let arena: Arena
    public let instanceID: String

    let poller: Poller
    let signals: SignalSource
    let launcher: Launcher
    let forest: Forest
    var timers = TimerHeap<TimerTarget>()
    /// Of this turn.
    var now = Instant.now()
    private let batch: UnsafeMutableBufferPointer<clinux_event>

    let planner: LaunchPlanner
    var users = UserLookups()
    let userResolvers = ResolverPool(mostResolvers: 64)
    let directoryResolvers = ResolverPool(mostResolvers: 16)
    var input: InputBudget
    var admission: AdmissionQueue
    var ledger = EndedLedger()
    var processes: [UInt64: SupervisedProcess] = [:]
    var serials: [String: UInt64] = [:]
    /// By owner and key.
    var keys: [StartKey: UInt64] = [:]
    var leaders: [pid_t: UInt64] = [:]
    /// Ascending; those forgotten leave it lazily.
    var serialsInOrder: Deque<UInt64> = []
    var nextSerial: UInt64 = 1
    var randomIDs = RandomIDs()

    /// Starts whose user is being looked up, by ticket, and the tickets of their calls.
    var pendingStarts: [UInt64: PendingStart] = [:]
    var pendingCalls: [CallID: UInt64] = [:]
    var nextTicket: UInt64 = 1
    var resolverTimer: (id: TimerID, deadline: Instant?)?

    /// Admitted, waiting for the launcher.
    var launchLine: Deque<UInt64> = []
    var launchLineIsScheduled = false
    var launchWindow = LaunchWindow()
    /// Launches whose process has been given up, and that the launcher has not told of yet.
    var abandonedLaunches: Set<UInt64> = []
    var launcherBackoff = Backoff(first: .milliseconds(50), largest: .seconds(5))
    var launcherStartedAt = Instant.now()
    /// Pipes that can be read.
    var runQueue: Deque<(serial: UInt64, stream: OutputStreamKind)> = []
    /// Processes whose output found no room in the arena.
    var waitingForRoom: Set<UInt64> = []
    var isStartingWaiting = false
    /// Trees that outlive their command.
    var lingering: [UInt64: ProcessTree] = [:]
    var lingeringTimers: [UInt64: TimerID] = [:]
    /// Pipes that descendants of ended commands hold.
    var droppedOutput: [UInt64: DroppedOutput] = [:]
    let nullDevice: FileDescriptor
    /// Logs of forgotten processes that links may still read.
    var departed: [UInt64: SupervisedProcess] = [:]
    /// Waiting calls by what they wait for, to abandon them.
    var waitingCalls: [CallID: UInt64] = [:]
    /// By the process they own.
    var owningCalls: [CallID: UInt64] = [:]
    var links: Set<UInt64> = []
    var watchers: Set<UInt64> = []
    var outbox: [(link: UInt64, notice: Notice)] = []
    /// What was counted of it so far.
    var census = Census()
    var orphansArePending = false
    /// New processes are refused, by an operator's wish.
    var isCordoned: Bool
    /// As the links know it.
    private var toldAdmission: AdmissionState?
    var housekeepingTimer: TimerID?
    var housekeepingDeadline: Instant?
    var shutdown: ShutdownState?

    /// The free segments that keep their pages: 16 MiB.
    private static let pooledSegments = 64
    /// 4 TiB; the address space has 128.
    private static let largestOutputMemory = 1 << 42

    /// Forks the launcher first: to be called early, from the thread that will call `turn`.
    public init(_ configuration: SupervisorConfiguration) throws {
        self.configuration = configuration
        instanceID = randomIDs.next()
        clinux_ignore_signals()
        // Whoever started it may have stood in a file system that is to be unmounted.
        _ = chdir("/")
        launcher = try Launcher(oomScore: OutOfMemoryScore.protectSupervisor())
        let null = clinux_open_null()
        guard null >= 0 else { throw SystemError("/dev/null") }
        nullDevice = FileDescriptor(owning: null)
        // For thousands of processes; the launcher, forked before, gives children what was
        // there.
        clinux_raise_descriptor_limit()
        _ = clinux_become_subreaper()
        signals = try SignalSource([SIGCHLD, SIGTERM])
        poller = try Poller()
        // Twice what may be retained, for what is held and for segments that are hardly used.
        let retained = min(max(0, configuration.maxOutputMemory), Self.largestOutputMemory)
        arena = try Arena(
            capacityBytes: 2 * retained + (64 << 20),
            pooledSegments: Self.pooledSegments)
        let forestName = CgroupForest.namePrefix + stableHash(of: configuration.stateDirectory)
        let cgroups = configuration.usesCgroups ? CgroupForest(name: forestName) : nil
        forest = Forest(cgroups: cgroups, stateDirectory: configuration.stateDirectory)
        planner = LaunchPlanner(
            shell: configuration.shell, defaultUser: configuration.defaultUser)
        admission = AdmissionQueue(
            maxRunning: configuration.maxRunning, maxQueued: configuration.maxQueued)
        input = InputBudget(limitBytes: configuration.maxInputMemory)
        isCordoned = access(configuration.stateDirectory + Self.cordonFile, F_OK) == 0
        batch = .allocate(capacity: Poller.batchCount)
        forest.knows(launcher.pid)
        try poller.add(signals.raw, .input, token: EventSource.signals.token(0))
        try poller.add(launcher.socket, .input, token: EventSource.launcher.token(0))
        watch(userResolvers, as: .userResolver)
        watch(directoryResolvers, as: .directoryResolver)
    }

    private func watch(_ pool: ResolverPool, as source: EventSource) {
        pool.onStart = { [unowned self] descriptor, number in
            (try? poller.add(descriptor, .input, token: source.token(number))) != nil
        }
        pool.onEnd = { [unowned self] descriptor in poller.remove(descriptor) }
    }

    deinit {
        batch.deallocate()
    }

    /// What limits of a process's memory, CPU and process count can mean here.
    public var limitsEnforcement: LimitsEnforcement {
        forest.limitsWholeTrees ? .cgroup : .rlimit
    }

    // MARK: Links

    /// A gateway's link, by a number that is never used again.
    public func linkOpened(_ link: UInt64) {
        links.insert(link)
    }

    /// The file of the state directory that says that new processes are refused.
    public static let cordonFile = "/cordoned"

    public var admissionState: AdmissionState {
        AdmissionState(
            isCordoned: isCordoned, hasPlace: admission.hasPlace && shutdown == nil)
    }

    /// Refuses new processes from now on, or accepts them again.
    public func cordon(_ isOn: Bool, by call: CallID) {
        isCordoned = isOn
        reply(call, .done)
    }

    /// News and answers since the last call, each with the link it is for.
    public func takeNotices() -> [(link: UInt64, notice: Notice)] {
        let state = admissionState
        if state != toldAdmission {
            toldAdmission = state
            for link in links { tell(link, .admission(state)) }
        }
        defer { outbox.removeAll(keepingCapacity: true) }
        return outbox
    }

    /// Polls a descriptor of the caller's own; `number` comes back from `turn`.
    public func watch(
        _ descriptor: Int32, _ readiness: Readiness, number: UInt64
    ) throws(SystemError) {
        try poller.add(descriptor, readiness, token: EventSource.client.token(number))
    }

    public func changeWatch(
        _ descriptor: Int32, _ readiness: Readiness, number: UInt64
    ) throws(SystemError) {
        try poller.modify(descriptor, readiness, token: EventSource.client.token(number))
    }

    public func unwatch(_ descriptor: Int32) {
        poller.remove(descriptor)
    }

    func tell(_ link: UInt64, _ notice: Notice) {
        outbox.append((link, notice))
    }

    func reply(_ call: CallID, _ answer: Answer) {
        outbox.append((call.link, .reply(call: call.call, answer)))
    }

    func process(_ serial: UInt64) -> SupervisedProcess? { processes[serial] }

    func process(id: String) throws(Refusal) -> SupervisedProcess {
        guard let serial = serials[id], let process = processes[serial] else {
            throw .notFound(id)
        }
        return process
    }

    // MARK: The loop

    /// Whether a shutdown is complete: there is nothing left to turn for.
    public var isFinished: Bool { shutdown?.isFinished ?? false }

    /// Waits for events, at most `timeout` (`nil`: until one comes), and acts on them.
    /// `onClient` is called for descriptors that were given to `watch`.
    public func turn(
        timeout: Duration? = nil, onClient: (UInt64, Readiness) -> Void
    ) throws(SystemError) {
        let count = try poller.wait(into: batch, timeout: pollTimeout(atMost: timeout))
        now = .now()
        for index in 0..<count {
            let event = batch[index]
            guard let (source, number) = EventSource.parse(event.token) else { continue }
            if source == .client {
                onClient(number, event.readiness)
            } else {
                dispatch(source, number, event.readiness)
            }
        }
        // No more than there were: what fires may be due again at once.
        for _ in 0..<timers.count {
            guard let (_, target) = timers.popDue(at: now) else { break }
            fire(target)
        }
        readQueued()
        // After the commands that ended in this turn, so that only others are found.
        if orphansArePending { reapOrphans() }
    }

    private func pollTimeout(atMost limit: Duration?) -> Duration? {
        if !runQueue.isEmpty { return .zero }
        guard let deadline = timers.nextDeadline() else { return limit }
        let wait = max(.zero, deadline - Instant.now())
        return limit.map { min($0, wait) } ?? wait
    }

    private func dispatch(_ source: EventSource, _ number: UInt64, _ readiness: Readiness) {
        switch source {
        case .client: break
        case .signals: takeSignals()
        case .launcher: takeLaunches()
        case .exit: processes[number].map { reap($0) }
        case .stdout: outputIsReady(number, .stdout, readiness)
        case .stderr: outputIsReady(number, .stderr, readiness)
        case .stdin: processes[number].map { feed($0) }
        case .tree: treeChanged(number)
        case .userResolver: takeAnswer(from: userResolvers, number)
        case .directoryResolver: takeAnswer(from: directoryResolvers, number)
        }
    }

    private func outputIsReady(
        _ serial: UInt64, _ stream: OutputStreamKind, _ readiness: Readiness
    ) {
        if let process = processes[serial], process.output(stream) != nil {
            outputIsReady(process, stream, readiness)
        } else {
            outputIsDropped(serial, stream)
        }
    }

    private func fire(_ target: TimerTarget) {
        switch target {
        case .timeout(let serial):
            guard let process = processes[serial] else { return }
            process.timers.timeout = nil
            // It may have ended in time, and only not been looked at.
            reap(process)
            guard process.commandEndedAt == nil, process.phase != .ended else { return }
            stop(process, .timeout, grace: process.grace)
        case .queueTimeout(let serial):
            guard let process = processes[serial] else { return }
            process.timers.queue = nil
            queueTimeOut(process)
        case .kill(let serial):
            guard let process = processes[serial] else { return }
            process.timers.kill = nil
            let hasEnded = process.phase == .ended
            let action =
                hasEnded
                ? process.descendantStop.due(now: now) : process.stopPlan.due(now: now)
            act(action, on: process)
        case .drain(let serial):
            guard let process = processes[serial] else { return }
            process.timers.drain = nil
            settle(process)
        case .resume(let serial):
            guard let process = processes[serial] else { return }
            process.timers.resume = nil
            follow(process.owners.windowPassed(), of: process)
        case .sweep(let serial):
            processes[serial]?.timers.sweep = nil
            treeChanged(serial)
        case .linger(let serial):
            lingeringTimers[serial] = nil
            if let tree = lingering[serial] {
                lookAtLingering(tree, serial)
                // One that could not be polled.
                if lingering[serial] != nil { scheduleLingering(serial) }
            }
        case .terminate(let serial):
            guard let process = processes[serial] else { return }
            process.timers.terminate = nil
            terminateAgain(process)
        case .unkillable(let serial):
            guard let process = processes[serial] else { return }
            process.timers.unkillable = nil
            killAgain(process)
        case .pace(let serial, let stream):
            guard let process = processes[serial], let pipe = process.output(stream),
                pipe.state == .paced
            else { return }
            enqueue(process, pipe)
        case .launch(let serial):
            guard let process = processes[serial] else { return }
            process.timers.launch = nil
            launchIsLate(process)
        case .asked(let serial):
            guard let process = processes[serial] else { return }
            process.timers.asked = nil
            askedInVain(process)
        case .launchLine:
            advanceLaunchLine()
        case .launcher:
            startLauncher()
        case .resolvers:
            advanceResolvers()
        case .shutdownLimit:
            limitShutdown()
        case .strays:
            checkShutdown()
        case .housekeeping:
            housekeepingTimer = nil
            keepHouse()
        }
    }

    func setTimer(
        _ process: SupervisedProcess, _ timer: WritableKeyPath<ProcessTimers, TimerID?>,
        _ target: TimerTarget, at deadline: Instant
    ) {
        cancelTimer(process, timer)
        process.timers[keyPath: timer] = timers.add(target, at: deadline)
    }

    func cancelTimer(
        _ process: SupervisedProcess, _ timer: WritableKeyPath<ProcessTimers, TimerID?>
    ) {
        guard let id = process.timers[keyPath: timer] else { return }
        timers.cancel(id)
        process.timers[keyPath: timer] = nil
    }

    /// All but the one that outlasts the end, of a caller that may come back.
    func cancelTimers(of process: SupervisedProcess) {
        let set = process.timers
        for case let id? in [
            set.timeout, set.queue, set.launch, set.kill, set.drain, set.sweep, set.terminate,
            set.unkillable, set.asked,
        ] {
            timers.cancel(id)
        }
        process.timers = ProcessTimers(resume: set.resume)
    }

    private func takeSignals() {
        // One at a time: the next turn comes at once where there are more.
        switch signals.next() {
        case SIGTERM: beginShutdown(grace: nil, for: nil)
        case SIGCHLD: orphansArePending = true
        default: return
        }
    }
}

/// The same for the same text in every run: FNV-1a.
func stableHash(of text: String) -> String {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
    return String(hash, radix: 36)
}
