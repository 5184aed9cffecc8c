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
    let policy: GatewayPolicy
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

    init(
        eventLoop: any EventLoop, policy: GatewayPolicy, logger: Logger,
        keeper: SupervisorKeeper, failures: FailureLimiter, fence: SessionFence
    ) {
        self.eventLoop = eventLoop
        self.policy = policy
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
            }
    }

    /// Stops every process, whole trees, and with them the supervisor.
    ///
    /// - Returns: Whether there was a link to say so.
    func shutDownSupervisor(graceful: Bool) async -> Bool {
        await tell(.shutdown(Shutdown.with { $0.hasGrace = !graceful }))
    }

    /// Returns once the supervisor has heard everything that it was told before.
    func barrier() async {
        // By a lost link it hears no more.
        _ = await tell(.get(Get()))
    }

    /// From any thread; returns with the reply, whatever it is. False where there is no link.
    private func tell(_ command: Command.Kind) async -> Bool {
        await withCheckedContinuation { continuation in
            eventLoop.execute { [self] in
                guard let link, !link.isLost else { return continuation.resume(returning: false) }
                link.send(command) { _ in continuation.resume(returning: true) }
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
            link?.close()
        }
        // It cannot fail: the loop runs until after this.
        try? await closed.get()
    }

    /// The live link. Throws UNAVAILABLE while the supervisor is being started again.
    func liveLink() throws(GRPCStatus) -> SupervisorLink {
        guard let link, !link.isLost else {
            throw .refusal(.supervisorUnavailable, "the supervisor is not running; try again")
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
        if !replies.enterNow(weight) { await replies.enter(weight) }
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
        let reply = try await ask(for: .process) { link, completion in
            link.send(kind, completion: completion)
        }
        guard case .process(let reply) = reply, let process = reply.process else {
            throw Self.unexpectedReply
        }
        return process
    }

    /// Sends a command that names a process, whose reply is the process as it stands.
    func processCommand(_ kind: Command.Kind) async throws(GRPCStatus) -> Process {
        guard case .process(let reply) = try await command(kind), let process = reply.process
        else { throw Self.unexpectedReply }
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

    /// Keeps `process` where it has ended.
    func remember(_ process: Process) {
        if process.status.hasEnded { ended.add(process) }
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
            lost: { [self] error in
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
