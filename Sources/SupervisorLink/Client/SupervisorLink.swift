// The gateway's end of the link: commands out, replies and events in, the logs that its
// calls follow. There is one for each event loop, and it never leaves it: no lock, no
// hop. Knows no HTTP and no caller.

public import NIOCore
import NIOPosix
import OutputLog
public import ProcgateInternal
public import ProcgateV1
import Protobuf

/// What the supervisor said of itself in its Welcome.
public typealias SupervisorFacts = Welcome

/// A live connection to the supervisor, confined to one event loop.
///
/// `@unchecked Sendable`, because every method asserts that it runs on `eventLoop`.
public final class SupervisorLink: @unchecked Sendable {
    /// What a link tells its owner, on the loop.
    public struct Observer {
        /// A process's status changed; only between `watch(true)` and `watch(false)`.
        public var changed: (Process) -> Void
        /// The supervisor has dropped the output of this ended process.
        public var outputForgotten: (_ processID: String) -> Void
        /// The supervisor remembers this process no longer.
        public var forgotten: (_ processID: String, _ serial: UInt64) -> Void
        /// Whether new processes are accepted has changed, or whether they would run at once.
        public var admissionChanged: () -> Void
        /// The supervisor has not answered for `SupervisorLink.longestSilence`, or does so again.
        public var responding: (Bool) -> Void
        /// The connection is gone; every waiting command has failed. What was followed waits
        /// for another link to `adopt` it, or for `giveUp`.
        public var lost: (SupervisorError) -> Void

        public init(
            changed: @escaping (Process) -> Void,
            outputForgotten: @escaping (String) -> Void,
            forgotten: @escaping (String, UInt64) -> Void,
            admissionChanged: @escaping () -> Void,
            responding: @escaping (Bool) -> Void,
            lost: @escaping (SupervisorError) -> Void
        ) {
            self.changed = changed
            self.outputForgotten = outputForgotten
            self.forgotten = forgotten
            self.admissionChanged = admissionChanged
            self.responding = responding
            self.lost = lost
        }
    }

    public let eventLoop: any EventLoop
    public let facts: SupervisorFacts
    /// What becomes of a start, as the supervisor told last.
    public private(set) var admission: Admission

    private let arena: ArenaMapping
    /// Until the link is lost: its owner and it hold each other.
    private var observer: Observer?
    private var heartbeat = Heartbeat()
    private var channel: (any Channel)?
    private var loss: SupervisorError?
    private var nextCall: UInt64 = 1
    private var waiting: [UInt64: (Result<Reply.Kind, SupervisorError>) -> Void] = [:]
    private var logs: [UInt64: FollowedLog] = [:]
    private var outgoing = ByteBuffer()
    /// What goes before `outgoing`: attachments, and what goes before them.
    private var outgoingPieces: [ByteBuffer] = []
    /// What is kept until all of that has left for the supervisor.
    private var keptWhileOutgoing: [AnyObject] = []
    private var flushIsScheduled = false
    private var lateFlushIsScheduled = false

    private init(
        eventLoop: any EventLoop, facts: SupervisorFacts, arena: ArenaMapping, observer: Observer
    ) {
        self.eventLoop = eventLoop
        self.facts = facts
        admission = facts.admission ?? Admission()
        self.arena = arena
        self.observer = observer
    }

    /// Puts a socket that has shaken hands on `eventLoop`.
    public static func start(
        _ socket: consuming SupervisorSocket, on eventLoop: any EventLoop,
        observer: @escaping @Sendable () -> Observer
    ) -> EventLoopFuture<SupervisorLink> {
        let facts = socket.welcome
        let arena = socket.arena
        return ClientBootstrap(group: eventLoop)
            .channelInitializer { channel in
                // Before the socket is read: what it says first must find the link.
                channel.eventLoop.makeCompletedFuture {
                    _ = try attach(
                        to: channel, facts: facts, arena: arena, observer: observer())
                }
            }
            .channelOption(.maxMessagesPerRead, value: 4)
            .channelOption(
                .recvAllocator,
                value: AdaptiveRecvByteBufferAllocator(
                    minimum: 1_024, initial: 4_096, maximum: 65_536)
            )
            .withConnectedSocket(socket.descriptor.release())
            .flatMapThrowing { channel in
                try channel.pipeline.syncOperations.handler(type: LinkHandler.self).link
            }
    }

    /// A link over `channel`, whose peer has said Welcome. On the channel's loop.
    static func attach(
        to channel: any Channel, facts: SupervisorFacts, arena: ArenaMapping, observer: Observer
    ) throws -> SupervisorLink {
        let link = SupervisorLink(
            eventLoop: channel.eventLoop, facts: facts, arena: arena, observer: observer)
        link.channel = channel
        try channel.pipeline.syncOperations.addHandler(LinkHandler(link))
        return link
    }

    public var isLost: Bool { loss != nil }

    // MARK: Signs of life

    /// A supervisor that says nothing for so long, though it is asked, stands still.
    public static let longestSilence = TimeAmount.seconds(5)
    /// How often `beat` is to be called.
    public static let heartbeatInterval = TimeAmount.seconds(1)

    /// Whether the supervisor answers.
    public var isResponding: Bool { heartbeat.isResponding }

    /// Asks for a sign of life where there was none, and notices where none has come.
    public func beat() {
        eventLoop.assertInEventLoop()
        guard loss == nil else { return }
        switch heartbeat.beat(now: .now()) {
        case .nothing: return
        case .ask: send(.ping(Ping())) { _ in }
        case .silence: observer?.responding(false)
        }
    }

    func heard() {
        if heartbeat.heard(now: .now()) { observer?.responding(true) }
    }

    /// Ends the connection; what is waiting fails.
    public func close() {
        channel?.close(promise: nil)
    }

    // MARK: Commands

    /// Sends a command whose reply comes to `completion`, on the loop. Returns the
    /// number to abandon it by.
    /// - Parameter attachment: the data of a WriteStdin, which says how many bytes they are; at
    ///   most 1 MiB.
    /// - Parameter kept: kept until the supervisor's socket has taken the command.
    @discardableResult
    public func send(
        _ kind: Command.Kind, attaching attachment: ByteBuffer = ByteBuffer(),
        keeping kept: AnyObject? = nil,
        completion: @escaping (Result<Reply.Kind, SupervisorError>) -> Void
    ) -> UInt64 {
        eventLoop.assertInEventLoop()
        if let loss {
            completion(.failure(loss))
            return 0
        }
        let call = nextCall
        nextCall += 1
        waiting[call] = completion
        write(kind, call: call)
        if attachment.readableBytes > 0 { attach(attachment) }
        if let kept { keptWhileOutgoing.append(kept) }
        return call
    }

    /// Sends a command that has no reply, on behalf of a call that was sent before.
    /// - Parameter canWait: nobody waits for what it does: it leaves with the next command
    ///   that cannot, or a moment later, so that the supervisor is not woken for it alone.
    public func send(_ kind: Command.Kind, for call: UInt64 = 0, canWait: Bool = false) {
        eventLoop.assertInEventLoop()
        if loss == nil { write(kind, call: call, canWait: canWait) }
    }

    /// Gives a command up that still waits for its reply; else nothing happens.
    public func abandonWaiting(_ call: UInt64) {
        if waiting[call] != nil { abandon(call, .cancelled) }
    }

    /// Gives a command up; see `AbandonReason`. A waiting one ends as `abandoned`.
    public func abandon(_ call: UInt64, _ reason: AbandonReason) {
        eventLoop.assertInEventLoop()
        guard call != 0 else { return }
        var abandon = Abandon()
        abandon.call = call
        abandon.reason = reason
        send(.abandon(abandon), canWait: reason == .completed)
        waiting.removeValue(forKey: call)?(.failure(.abandoned))
    }

    // MARK: Logs

    /// Sends a Start or Follow, whose reply carries a log: that is known before the next
    /// event is looked at, so that none is missed. What comes to `completion` is to be
    /// read by a `LogReader`, and closed. Returns the number to abandon the command by.
    @discardableResult
    public func follow(
        _ kind: Command.Kind, keeping kept: AnyObject? = nil,
        completion: @escaping (Result<Following, SupervisorError>) -> Void
    ) -> UInt64 {
        send(kind, keeping: kept) { [self] result in
            completion(
                result.flatMap { kind in
                    guard case .started(let started) = kind else {
                        return .failure(.protocolViolation("a reply without its process"))
                    }
                    return Result { () throws(SupervisorError) in
                        Following(started: started, log: try log(of: started))
                    }
                })
        }
    }

    /// The log that a reply carries, shared by all its readers on this loop.
    private func log(of started: Started) throws(SupervisorError) -> FollowedLog {
        guard let state = started.log, let process = started.process else {
            throw .protocolViolation("a followed process without its log")
        }
        if let log = logs[started.serial] {
            log.follows += 1
            log.announcedFollows += 1
            return log
        }
        let log = FollowedLog(
            link: self, serial: started.serial, index: try index(of: state), process: process,
            hasEnded: started.ended)
        logs[started.serial] = log
        return log
    }

    private func index(of state: LogState) throws(SupervisorError) -> LogIndex {
        let segments = state.segments.map { segment in
            LogIndex.Segment(
                ordinal: segment.ordinal, offset: Int(segment.index) * LogIndex.blockUnit,
                firstSeq: segment.firstSeq, end: Int(segment.end))
        }
        guard
            let index = LogIndex(arena: arena, segments: segments, lastSeq: state.lastSeq)
        else { throw .protocolViolation("a log that is not in the arena") }
        return index
    }

    // MARK: After a loss

    /// Takes over what was followed over a link that was lost. Where the supervisor is another
    /// one now, its processes are gone; else their logs are followed again, and their readers go
    /// on where they stand.
    public func adopt(logsOf lost: SupervisorLink) {
        eventLoop.assertInEventLoop()
        guard facts.instanceId == lost.facts.instanceId else { return lost.giveUp() }
        let followed = lost.logs.values
        lost.logs = [:]
        for log in followed { followAgain(log) }
    }

    /// Of a link that was lost: nobody will take it over.
    public func giveUp() {
        let followed = logs.values
        logs = [:]
        for log in followed { log.lose() }
    }

    private func followAgain(_ log: FollowedLog) {
        logs[log.serial] = log
        log.move(to: self)
        var follow = Follow()
        follow.processId = log.process.id
        send(.follow(follow)) { [self] result in
            switch result {
            case .success(let kind):
                // Its readers may have gone meanwhile.
                guard logs[log.serial] === log else { return letGo(of: kind) }
                guard case .started(let started) = kind, let state = started.log,
                    let process = started.process, let index = try? self.index(of: state)
                else { return drop(log) }
                log.resume(index: index, process: process, hasEnded: started.ended)
            case .failure(.refused):
                drop(log)
            case .failure:
                // This link is lost, too: the next one takes it over.
                return
            }
        }
    }

    private func drop(_ log: FollowedLog) {
        guard logs[log.serial] === log else { return }
        logs[log.serial] = nil
        log.forget()
    }

    /// The answer to what was given up meanwhile: nobody will read the log that it brings.
    private func letGo(of kind: Reply.Kind) {
        guard case .started(let started) = kind, started.log != nil else { return }
        var unfollow = Unfollow()
        unfollow.serial = started.serial
        send(.unfollow(unfollow))
    }

    func unfollow(_ log: FollowedLog) {
        log.follows -= 1
        if log.follows == 0, logs[log.serial] === log { logs[log.serial] = nil }
        guard log.follows < log.announcedFollows else { return }
        log.announcedFollows -= 1
        var unfollow = Unfollow()
        unfollow.serial = log.serial
        send(.unfollow(unfollow), canWait: true)
    }

    // MARK: What comes in

    func receive(_ event: Event) throws(SupervisorError) {
        switch event.kind {
        case .reply(let reply):
            guard let kind = reply.kind else { throw .protocolViolation("an empty reply") }
            guard let completion = waiting.removeValue(forKey: reply.call) else {
                return letGo(of: kind)
            }
            completion(Self.result(of: kind))
        case .appended(let appended):
            guard let log = logs[appended.serial] else { return }
            guard log.append(appended) else {
                throw .protocolViolation("a record that is not in the arena")
            }
        case .retired(let retired):
            if let log = logs[retired.serial] {
                log.retire(through: retired.ordinal)
            } else {
                acknowledge(serial: retired.serial, ordinal: retired.ordinal)
            }
        case .running(let running):
            if let process = running.process { logs[running.serial]?.run(process) }
        case .ended(let ended):
            if let process = ended.process { logs[ended.serial]?.end(process) }
        case .changed(let changed):
            if let process = changed.process { observer?.changed(process) }
        case .admission(let admission):
            self.admission = admission
            observer?.admissionChanged()
        case .forgotten(let forgotten) where forgotten.outputOnly:
            observer?.outputForgotten(forgotten.processId)
        case .forgotten(let forgotten):
            observer?.forgotten(forgotten.processId, forgotten.serial)
        case .welcome, nil:
            throw .protocolViolation("malformed event")
        }
    }

    func acknowledge(serial: UInt64, ordinal: UInt64) {
        var ack = RetireAck()
        ack.serial = serial
        ack.ordinal = ordinal
        send(.retireAck(ack))
    }

    func lose(_ error: SupervisorError) {
        guard loss == nil else { return }
        loss = error
        let completions = waiting.values
        waiting = [:]
        for log in logs.values { log.interrupt() }
        for completion in completions { completion(.failure(error)) }
        let lost = observer?.lost
        observer = nil
        channel = nil
        lost?(error)
    }

    private static func result(of kind: Reply.Kind) -> Result<Reply.Kind, SupervisorError> {
        guard case .failure(let failure) = kind else { return .success(kind) }
        guard let reason = ErrorReason(rawValue: failure.reason) else {
            return .failure(.protocolViolation("\(failure.reason): \(failure.message)"))
        }
        return .failure(.refused(reason, message: failure.message))
    }

    // MARK: What goes out

    /// Commands of one turn of the loop leave in one write.
    private func write(_ kind: Command.Kind, call: UInt64, canWait: Bool = false) {
        var command = Command()
        command.call = call
        command.kind = kind
        command.withEncoder { encoder in
            let count = encoder.byteCount
            outgoing.writeInteger(UInt32(count), endianness: .little)
            outgoing.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { room in
                encoder.write(into: room)
                return count
            }
        }
        guard !flushIsScheduled else { return }
        if canWait {
            guard !lateFlushIsScheduled else { return }
            lateFlushIsScheduled = true
            eventLoop.assumeIsolated().scheduleTask(in: Self.longestWait) {
                self.lateFlushIsScheduled = false
                self.flush()
            }
            return
        }
        flushIsScheduled = true
        eventLoop.assumeIsolated().execute { self.flush() }
    }

    /// How long what can wait does, at most.
    private static let longestWait = TimeAmount.milliseconds(10)

    /// Behind the command that was written last.
    private func attach(_ attachment: ByteBuffer) {
        outgoingPieces.append(outgoing)
        outgoingPieces.append(attachment)
        outgoing = ByteBuffer()
    }

    private func flush() {
        flushIsScheduled = false
        guard let channel else { return }
        if !outgoingPieces.isEmpty {
            for piece in outgoingPieces { channel.write(piece, promise: nil) }
            outgoingPieces.removeAll(keepingCapacity: true)
        }
        if outgoing.readableBytes > 0 || !keptWhileOutgoing.isEmpty {
            let bytes = outgoing
            outgoing = ByteBuffer()
            channel.write(bytes, promise: takeKept(channel))
        }
        channel.flush()
    }

    /// Of the last write, which is done when all are.
    private func takeKept(_ channel: any Channel) -> EventLoopPromise<Void>? {
        guard !keptWhileOutgoing.isEmpty else { return nil }
        let kept = NIOLoopBound(keptWhileOutgoing, eventLoop: eventLoop)
        keptWhileOutgoing = []
        let promise = channel.eventLoop.makePromise(of: Void.self)
        promise.futureResult.whenComplete { _ in withExtendedLifetime(kept) {} }
        return promise
    }
}

/// A process and its log, followed from the moment that the supervisor spoke of.
///
/// A class, since it is large and crosses the frames of many tasks that wait for one.
public final class Following: Sendable {
    public let started: Started
    public let log: FollowedLog

    init(started: Started, log: FollowedLog) {
        self.started = started
        self.log = log
    }
}
