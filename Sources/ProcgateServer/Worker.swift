// What the gateway keeps for one event loop: a link to the supervisor, the records of
// ended processes, the streams that are kept alive. Nothing is shared between loops, so
// a call never hops threads and takes no lock.

import GRPCWire
import Logging
import NIOCore
import ProcgateInternal
import ProcgateV1
import Protobuf
import SupervisorLink

/// One event loop's share of the gateway.
///
/// `@unchecked Sendable`, because it is confined to `eventLoop`, as are all calls that
/// reach it.
final class Worker: @unchecked Sendable {
    let eventLoop: any EventLoop
    /// The number of its link among the gateway's.
    let lane: UInt32
    let policy: GatewayPolicy
    let cordonFile: CordonFile
    let logger: Logger

    private(set) var link: SupervisorLink?
    private(set) var watchers: [ObjectIdentifier: WatchFeed] = [:]
    private var isWatching = false
    private var ended = EndedCache(capacity: 1_024, capacityBytes: 4 << 20)
    private var idle: KeepAliveList
    let replies = ReplyGate()
    /// Of those who could not say who they are; shared by all loops.
    let failures: FailureLimiter
    /// Shared by all loops, too.
    let fence: SessionFence
    let keeper: SupervisorKeeper
    /// The supervisor is expected to go, or to go on without this gateway.
    private(set) var isClosed = false
    private var heartbeat: RepeatedTask?

    init(
        eventLoop: any EventLoop, lane: UInt32, policy: GatewayPolicy, logger: Logger,
        keeper: SupervisorKeeper, failures: FailureLimiter, fence: SessionFence
    ) {
        self.eventLoop = eventLoop
        self.lane = lane
        self.policy = policy
        cordonFile = CordonFile(stateDirectory: keeper.stateDirectory)
        self.logger = logger
        self.keeper = keeper
        self.failures = failures
        self.fence = fence
        idle = KeepAliveList(eventLoop: eventLoop, interval: policy.keepAlive)
    }

    /// Puts a fresh socket to use; the one before it is lost.
    func connect(_ socket: consuming SupervisorSocket) -> EventLoopFuture<Void> {
        SupervisorLink.start(socket, on: eventLoop) { self.observer() }
            .map { link in
                let lost = self.link
                self.link = link
                if let lost { link.adopt(logsOf: lost) }
                self.ended.removeAll()
                self.isWatching = false
                self.startHeartbeat()
                self.keeper.admissionChanged(on: self.eventLoop, link.admission)
            }
    }

    private func startHeartbeat() {
        guard heartbeat == nil else { return }
        let interval = SupervisorLink.heartbeatInterval
        heartbeat = eventLoop.scheduleRepeatedTask(initialDelay: interval, delay: interval) {
            [weak self] _ in self?.link?.beat()
        }
    }

    /// Stops every process, whole trees, and with them the supervisor, unless that is not this
    /// gateway's alone.
    ///
    /// - Parameter limit: How long to wait for the reply.
    /// - Returns: The reply; `nil` where there is no link, or none has come.
    func shutDownSupervisor(
        graceful: Bool, limit: TimeAmount
    ) async -> Result<ShutdownReply, SupervisorError>? {
        let shutdown = Shutdown.with {
            $0.hasGrace = !graceful
            $0.unlessShared = true
        }
        guard let result = await tell(.shutdown(shutdown), limit: limit) else { return nil }
        return result.flatMap { kind in
            guard case .shutdown(let reply) = kind else {
                return .failure(.protocolViolation("a reply of another kind"))
            }
            return .success(reply)
        }
    }

    func hasLink() async -> Bool {
        let has = eventLoop.submit { [self] in link.map { !$0.isLost } ?? false }
        return (try? await has.get()) ?? false
    }

    /// The time between TERM and KILL, as the supervisor has it; `nil` without a link.
    func supervisorGrace() async -> TimeAmount? {
        let grace = eventLoop.submit { [self] in
            link.map { TimeAmount.milliseconds(Int64(clamping: $0.facts.graceMs)) }
        }
        return (try? await grace.get()) ?? nil
    }

    /// Returns once the supervisor has heard everything that it was told before.
    func barrier() async {
        // By a lost link it hears no more.
        _ = await tell(.get(Get()), limit: .hours(1))
    }

    /// From any thread; returns with the reply, whatever it is. `nil` where there is no link, or
    /// no reply within `limit`.
    private func tell(
        _ command: Command.Kind, limit: TimeAmount
    ) async -> Result<Reply.Kind, SupervisorError>? {
        await withCheckedContinuation { continuation in
            eventLoop.execute { [self] in
                guard let link, !link.isLost else { return continuation.resume(returning: nil) }
                let told = Told(continuation)
                let timer = eventLoop.assumeIsolated().scheduleTask(in: limit) { told.end(nil) }
                link.send(command) { result in
                    timer.cancel()
                    told.end(result)
                }
            }
        }
    }

    /// The supervisor will go, and is not to be started again.
    func expectEnd() async {
        let expected = eventLoop.submit { [self] in isClosed = true }
        // It cannot fail: the loop runs until after this.
        try? await expected.get()
    }

    /// Lets go of the supervisor, which goes on without this gateway.
    func close() async {
        let closed = eventLoop.submit { [self] in
            isClosed = true
            heartbeat?.cancel()
            link?.close()
            // What was lost before waits for a link that will not come.
            if let link, link.isLost { link.giveUp() }
        }
        // It cannot fail: the loop runs until after this.
        try? await closed.get()
    }

    /// The live link. Throws UNAVAILABLE while the supervisor is being started again.
    func liveLink() throws(GRPCStatus) -> SupervisorLink {
        guard let link, !link.isLost else {
            throw .refusal(.supervisorUnavailable, "the supervisor is not running; try again")
        }
        guard link.isResponding else {
            throw .refusal(
                .supervisorUnavailable, "the supervisor does not answer; try again later")
        }
        return link
    }

    /// Sends a command and waits for its reply; the call's cancellation gives it up.
    func command(_ kind: Command.Kind) async throws(GRPCStatus) -> Reply.Kind {
        try await reply { link, completion in link.send(kind, completion: completion) }
    }

    /// Follows a process's log. What comes back is to be read, and closed.
    func follow(_ processID: String) async throws(GRPCStatus) -> Following {
        let follow = Follow.with { $0.processId = processID }
        return try await ask(for: .process) { link, completion in
            link.follow(.follow(follow), completion: completion)
        }
    }

    /// Sends a command that is answered at once, perhaps with much. It is not given up when the
    /// call is cancelled: its reply is on its way, and counts until it has come.
    func ask<Value: Sendable>(
        for weight: ReplyGate.Weight,
        by send: (
            SupervisorLink, @escaping (Result<Value, SupervisorError>) -> Void
        ) -> UInt64
    ) async throws(GRPCStatus) -> Value {
        _ = try liveLink()
        if !replies.enterNow(weight) {
            guard await replies.enter(weight) else {
                // The supervisor has fallen silent, or is gone.
                throw .refusal(
                    .supervisorUnavailable, "the supervisor does not answer; try again later")
            }
        }
        defer { replies.leave(weight) }
        if Task.isCancelled { throw .supervisor(.abandoned) }
        let link = try liveLink()
        let result = await withCheckedContinuation { continuation in
            _ = send(link) { continuation.resume(returning: $0) }
        }
        do throws(SupervisorError) {
            return try result.get()
        } catch {
            throw .supervisor(error)
        }
    }

    func reply<Value: Sendable>(
        to send: (
            SupervisorLink, @escaping (Result<Value, SupervisorError>) -> Void
        ) -> UInt64
    ) async throws(GRPCStatus) -> Value {
        let link = try liveLink()
        let number = CallNumber()
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                number.value = send(link) { continuation.resume(returning: $0) }
            }
        } onCancel: {
            eventLoop.execute { link.abandonWaiting(number.value) }
        }
        do throws(SupervisorError) {
            return try result.get()
        } catch {
            throw .supervisor(error)
        }
    }

    /// A process as it stands.
    func process(_ id: String) async throws(GRPCStatus) -> Process {
        try await askForProcess(.get(.with { $0.processId = id }))
    }

    /// As `processCommand`, of a command that is answered at once.
    func askForProcess(_ kind: Command.Kind) async throws(GRPCStatus) -> Process {
        try Self.process(
            in: try await ask(for: .process) { link, completion in
                sendForProcess(kind, by: link, completion: completion)
            })
    }

    /// Sends a command that names a process, whose reply is the process as it stands. Where it
    /// has ended it is remembered, in the order in which the supervisor has spoken: it may be
    /// forgotten by what the supervisor says next.
    func processCommand(_ kind: Command.Kind) async throws(GRPCStatus) -> Process {
        try Self.process(
            in: try await reply { link, completion in
                sendForProcess(kind, by: link, completion: completion)
            })
    }

    private func sendForProcess(
        _ kind: Command.Kind, by link: SupervisorLink,
        completion: @escaping (Result<Reply.Kind, SupervisorError>) -> Void
    ) -> UInt64 {
        link.send(kind) { [self] result in
            if case .success(.process(let reply)) = result, let process = reply.process {
                remember(process)
            }
            completion(result)
        }
    }

    private static func process(in reply: Reply.Kind) throws(GRPCStatus) -> Process {
        guard case .process(let reply) = reply, let process = reply.process else {
            throw unexpectedReply
        }
        return process
    }

    /// Answers with a process, the first time with `known`. While there is no room for the answer
    /// nothing of it is kept: the process is asked for again then.
    func send<Response: ProtobufMessage>(
        _ known: Process, by call: ServerCall, as response: (Process) -> Response
    ) async throws(GRPCStatus) {
        if try call.sendNow(response(known)) { return }
        let id = known.id
        try await call.send { () async throws(GRPCStatus) -> Response in
            response(try await process(id))
        }
    }

    static let unexpectedReply = GRPCStatus(
        .internal, "the supervisor's reply is of another kind")

    // MARK: Ended processes

    /// The record of an ended process, which does not change any more.
    func endedProcess(_ id: String) -> EndedCache.Entry? { ended[id] }

    /// Keeps `process` where it has ended, and does not change any more. To be called on the
    /// loop, as the supervisor's reply comes.
    func remember(_ process: Process) {
        guard process.status.hasEnded, !process.descendantsAlive, process.expiresAt > 0 else {
            return
        }
        ended.add(process)
    }

    // MARK: Idle streams

    func keepAlive(_ stream: any KeptAlive) { idle.add(stream) }
    func forget(_ stream: any KeptAlive) { idle.remove(stream) }

    // MARK: Watchers

    /// Hands each change of status to `feed` from now on.
    func watch(_ feed: WatchFeed) async throws(GRPCStatus) {
        watchers[ObjectIdentifier(feed)] = feed
        guard !isWatching else { return }
        isWatching = true
        do {
            _ = try await command(.watch(Watch()))
        } catch {
            // Whose call was cancelled does not wait for the reply; the command is on its way, and
            // others count on it.
            if link?.isLost ?? true { isWatching = false }
            throw error
        }
    }

    func unwatch(_ feed: WatchFeed) {
        watchers[ObjectIdentifier(feed)] = nil
        guard watchers.isEmpty, isWatching else { return }
        isWatching = false
        let off = Watch.with { $0.off = true }
        link?.send(.watch(off)) { _ in }
    }

    private func observer() -> SupervisorLink.Observer {
        SupervisorLink.Observer(
            changed: { [self] process in
                ended.remove(process.id)
                for feed in watchers.values { feed.changed(process) }
            },
            outputForgotten: { [self] id in ended.remove(id) },
            forgotten: { [self] id, _ in
                ended.remove(id)
                for feed in watchers.values { feed.deleted(id) }
            },
            admissionChanged: { [self] in keeper.admissionChanged(on: eventLoop, link?.admission) },
            responding: { [self] isResponding in
                if isResponding {
                    logger.notice("the supervisor answers again")
                    keeper.supervisorAnswers(on: eventLoop)
                } else {
                    logger.error("the supervisor does not answer")
                    replies.giveUpWaiting()
                    keeper.supervisorIsSilent(on: eventLoop)
                }
            },
            lost: { [self] error in
                replies.giveUpWaiting()
                ended.removeAll()
                isWatching = false
                for feed in watchers.values { feed.end() }
                guard !isClosed else {
                    link?.giveUp()
                    return
                }
                logger.error("the supervisor is gone", metadata: ["error": "\(error)"])
                keeper.reconnect(self)
            })
    }
}

/// Whoever waits for a reply, resumed once. Confined to its event loop.
private final class Told {
    private var continuation: CheckedContinuation<Result<Reply.Kind, SupervisorError>?, Never>?

    init(_ continuation: CheckedContinuation<Result<Reply.Kind, SupervisorError>?, Never>) {
        self.continuation = continuation
    }

    func end(_ result: Result<Reply.Kind, SupervisorError>?) {
        continuation?.resume(returning: result)
        continuation = nil
    }
}

/// The number of a command, once it was sent.
private final class CallNumber: @unchecked Sendable {
    // Confined to the loop that sends the command and abandons it.
    var value: UInt64 = 0
}

extension ProcessStatus {
    /// Exited, failed, killed or timed out.
    var hasEnded: Bool {
        switch self {
        case .exited, .failed, .killed, .timedOut: true
        case .unspecified, .queued, .running, .unrecognized: false
        }
    }
}
