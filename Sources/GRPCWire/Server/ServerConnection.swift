// One connection of a server: its requests become calls. Knows no socket option and no TLS.

import HTTP2
import NIOCore

/// What one event loop's connections share. Confined to the loop.
///
/// `@unchecked Sendable`: built before the server runs, then used on its loop alone.
final class LoopServices: @unchecked Sendable {
    let eventLoop: any EventLoop
    let router: ServiceRouter
    let configuration: ServerConfiguration
    let executor: LoopExecutor
    let deadlines: DeadlineQueue
    let output = OutputBuffer()
    let memory: BufferMemory
    private var connections: [ObjectIdentifier: ServerConnection] = [:]
    /// Channels on which TLS is not agreed upon yet.
    private var handshaking: [ObjectIdentifier: any Channel] = [:]
    private var ticker: RepeatedTask?
    private(set) var isDraining = false

    init(
        _ eventLoop: any EventLoop, router: ServiceRouter, configuration: ServerConfiguration,
        memory: BufferMemory
    ) {
        self.eventLoop = eventLoop
        self.memory = memory
        self.router = router
        self.configuration = configuration
        executor = LoopExecutor(eventLoop)
        deadlines = DeadlineQueue(eventLoop)
    }

    var openConnections: Int { connections.count }

    func add(_ connection: ServerConnection) {
        connections[ObjectIdentifier(connection)] = connection
        guard ticker == nil else { return }
        let interval = Self.tickInterval(configuration.limits)
        ticker = eventLoop.scheduleRepeatedTask(initialDelay: interval, delay: interval) {
            _ in self.tick()
        }
    }

    func remove(_ connection: ServerConnection) {
        connections[ObjectIdentifier(connection)] = nil
        if connections.isEmpty {
            ticker?.cancel()
            ticker = nil
        }
    }

    /// A quarter of the shortest time that is watched, at most a second.
    private static func tickInterval(_ limits: ServerLimits) -> TimeAmount {
        let times = [
            limits.handshakeTime, limits.requestTime, limits.keepAliveTimeout,
            limits.idleTime ?? .hours(1), limits.keepAliveInterval ?? .hours(1),
        ]
        let shortest = times.map(\.nanoseconds).min() ?? 0
        return .nanoseconds(min(max(shortest / 4, 5_000_000), 1_000_000_000))
    }

    private func tick() {
        let now = NIODeadline.now()
        for connection in connections.values { connection.tick(now) }
    }

    func add(handshaking channel: any Channel) {
        handshaking[ObjectIdentifier(channel)] = channel
    }

    func remove(handshaking channel: any Channel) {
        handshaking[ObjectIdentifier(channel)] = nil
    }

    func drain() {
        isDraining = true
        closeHandshaking()
        for connection in connections.values { connection.drain() }
    }

    /// There will be no call on them.
    private func closeHandshaking() {
        let channels = handshaking.values
        handshaking = [:]
        for channel in channels { channel.close(promise: nil) }
    }

    func stop() {
        isDraining = true
        closeHandshaking()
        for connection in connections.values { connection.stop() }
    }
}

final class ServerConnection: HTTP2ConnectionDelegate {
    /// Payloads of PINGs, to tell their answers apart.
    private enum Ping {
        static let keepAlive: UInt64 = 0x6b65_6570
        static let drain: UInt64 = 0x6472_6169
    }

    let services: LoopServices
    let peer: PeerIdentity
    @exclusivity(unchecked) private var handler: HTTP2Handler?
    @exclusivity(unchecked) private var started: [ServerCall] = []
    @exclusivity(unchecked) private var spareStarted: [ServerCall] = []
    @exclusivity(unchecked) private var touched: [ServerCall] = []
    private let openedAt = NIODeadline.now()
    @exclusivity(unchecked) private var lastCallAt = NIODeadline.now()
    private var pingSentAt: NIODeadline?
    private var settingsSeen = false
    @exclusivity(unchecked) private var openCalls = 0
    private var isDraining = false
    private var finalGoAwayAt: NIODeadline?
    private var closeReason: String?
    let memory: ConnectionMemory
    /// What its own window has grown by.
    private var ownGrowthBytes = 0
    /// Received bytes that were not given back to the connection's window.
    @exclusivity(unchecked) private var withheldBytes = 0
    /// Frames that the peer has not read, as they are counted.
    @exclusivity(unchecked) private var framesCharge = 0
    /// Calls that nobody vouches for.
    @exclusivity(unchecked) var guests = 0
    /// Calls that were ended within a message, and when their callers must have taken its rest.
    private var farewells: [(call: ServerCall, until: NIODeadline)] = []

    /// For the rest of a message that was begun when its call was ended.
    private static let farewellTime = TimeAmount.seconds(1)

    init(services: LoopServices, peer: PeerIdentity) {
        self.services = services
        self.peer = peer
        let limits = services.configuration.limits
        let twice = min(limits.messageBytes, Int.max / 2) * 2
        memory = ConnectionMemory(
            limitBytes: max(limits.connectionMemoryBytes, twice), shared: services.memory,
            eventLoop: services.eventLoop)
    }

    func connectionStarted(_ connection: HTTP2Handler) {
        handler = connection
        memory.whenRoom = { [unowned self] in giveBackWithheld() }
        services.add(self)
        services.configuration.connectionObserver?(.opened(peer))
        if services.isDraining { drain() }
    }

    // MARK: Requests

    func headersReceived(_ stream: HTTP2Stream) {
        let hasRoom = memory.hasRoom
        memory.hold(Self.heldBytes(of: stream))
        guard hasRoom else {
            stream.respondOnly(StatusFields.trailersOnly(Self.isFull, metadata: Metadata()))
            return
        }
        guard !stream.headersOverLimit, let block = stream.headers else {
            let status = GRPCStatus(.resourceExhausted, "the request's header is too large")
            stream.respondOnly(
                StatusFields.trailersOnly(status, httpStatus: "431", metadata: Metadata()))
            return
        }
        let head: RequestHead
        if let known = block.annotation {
            head = unsafeDowncast(known, to: RequestHead.self)
        } else {
            head = RequestHead(block, router: services.router)
            block.annotation = head
        }
        switch head.disposition {
        case .plain(let answer):
            answerPlain(stream, answer)
        case .refused(let status):
            makeCall(stream, head, nil).finish(status)
        case .call(let method):
            let call = makeCall(stream, head, method)
            if stream.volatileValue != nil, call.deadline == nil {
                call.finish(GRPCStatus(.internal, "grpc-timeout is malformed"))
                return
            }
            if let deadline = call.deadline {
                guard deadline > call.startedAt else {
                    call.finish(GRPCStatus(.deadlineExceeded, "the deadline passed"))
                    return
                }
                services.deadlines.add(call, at: deadline)
            }
            started.append(call)
        }
    }

    /// The fields are kept once as they came, and once as text, unless calls share them.
    private static func heldBytes(of stream: HTTP2Stream) -> Int {
        let fields = stream.headers?.byteCount ?? 0
        return ServerCall.fixedBytes + (fields > sharedFieldBytes ? 3 * fields : 0)
    }

    private static let sharedFieldBytes = 1024

    private func makeCall(
        _ stream: HTTP2Stream, _ head: RequestHead, _ method: ServerMethod?
    ) -> ServerCall {
        let now = handler?.lastRead ?? .now()
        let timeout = stream.volatileValue.flatMap { value in
            value.withBytes { $0.flatMap(TimeoutField.parse) }
        }
        // A deadline a century away is none, and adding it must not overflow.
        let deadline = timeout.map { now + .nanoseconds(min($0, 3_000_000_000_000_000_000)) }
        let call = ServerCall(
            stream: stream, head: head, method: method, connection: self, startedAt: now,
            deadline: deadline)
        stream.context = call
        openCalls += 1
        services.configuration.beginObserver?()
        return call
    }

    private func answerPlain(_ stream: HTTP2Stream, _ answer: RequestHead.PlainAnswer) {
        var fields = HeaderListBuilder()
        fields.append(":status", answer.status)
        fields.append("content-type", "text/plain")
        fields.append("content-length", String(answer.body.utf8.count))
        if let allow = answer.allow { fields.append("allow", allow) }
        guard !answer.isToHead else {
            stream.respondOnly(HeaderList(fields))
            return
        }
        stream.respond(HeaderList(fields))
        var body = answer.body
        body.withUTF8 { stream.enqueue(copying: UnsafeRawBufferPointer($0)) }
        stream.end(trailers: nil)
    }

    private func call(_ stream: HTTP2Stream) -> ServerCall? {
        stream.context.map { unsafeDowncast($0, to: ServerCall.self) }
    }

    func dataReceived(_ stream: HTTP2Stream, _ bytes: ByteBuffer) {
        let count = bytes.readableBytes
        guard let call = call(stream) else {
            stream.consume(count)
            handler?.session.consumeConnection(count)
            return
        }
        call.received(bytes)
        touched.append(call)
        // What there is room for has to come, whatever else is held.
        if memory.hasRoom || call.hasReserved || call.isOver {
            handler?.session.consumeConnection(count)
        } else if withheldBytes + count <= Self.mostWithheld {
            withheldBytes += count
        } else {
            handler?.session.consumeConnection(count)
            call.fail(Self.isFull)
        }
    }

    /// Half of the smallest window: the other half is for what there is room for.
    private static let mostWithheld = 32 * 1024
    private static let isFull = GRPCStatus(
        .resourceExhausted, "the memory for this connection's calls is used up")

    /// The connection has room for what its peer sends.
    private func giveBackWithheld() {
        let count = withheldBytes
        withheldBytes = 0
        handler?.session.consumeConnection(count)
        handler?.scheduleFlush()
    }

    func trailersReceived(_ stream: HTTP2Stream) {}

    func endReceived(_ stream: HTTP2Stream) {
        call(stream)?.receivedEnd()
    }

    func batchEnded() {
        if !started.isEmpty {
            // A handler that runs here must not see the array that is being walked.
            var calls = spareStarted
            spareStarted = []
            swap(&calls, &started)
            for call in calls { call.start() }
            calls.removeAll(keepingCapacity: true)
            spareStarted = calls
        }
        if !touched.isEmpty {
            for call in touched { call.compact() }
            touched.removeAll(keepingCapacity: touched.count <= Self.spareCalls)
        }
        countFrames()
    }

    /// Answers and acknowledgements that a peer does not read are the codec's, until it ends the
    /// connection for their number.
    private func countFrames() {
        guard let frames = handler?.session.queuedFrames else { return }
        let due = frames > Self.uncountedFrames ? frames * Self.frameBytes : 0
        guard due != framesCharge else { return }
        let change = due - framesCharge
        framesCharge = due
        if change > 0 { memory.hold(change) } else { memory.release(-change) }
    }

    private static let uncountedFrames = 128
    private static let frameBytes = 512

    func outputRoom(_ limit: Int) -> Int {
        min(limit, max(memory.roomBytes, Self.leastOutput))
    }

    /// A frame of the usual size is always to be had.
    private static let leastOutput = 16 * 1024

    func waitingOutputChanged(by bytes: Int) {
        if bytes > 0 { memory.hold(bytes) } else { memory.release(-bytes) }
    }

    private static let spareCalls = 1024

    func closed(_ stream: HTTP2Stream, _ code: HTTP2ErrorCode?) {
        if stream.headers != nil || stream.headersOverLimit {
            memory.release(Self.heldBytes(of: stream))
        }
        guard let call = call(stream) else { return }
        stream.context = nil
        call.streamClosed()
        openCalls -= 1
        lastCallAt = handler?.lastRead ?? .now()
        if code == nil {
            call.cancel(.connectionLost, GRPCStatus(.cancelled, "the connection was lost"))
        } else if !call.isOver {
            call.cancel(.reset, GRPCStatus(.cancelled, "the caller reset the stream"))
        }
    }

    // MARK: What the connection may hold

    /// Lets the peer send as much on the connection as on a stream that has grown, if all
    /// connections' windows allow it. Once grown it stays so: a window cannot be taken back.
    func growWindow() {
        let target = services.configuration.limits.grownWindowBytes
        let growth = target - services.configuration.http2.connectionWindowBytes
        guard ownGrowthBytes == 0, growth > 0, services.memory.takeWindow(growth) else { return }
        ownGrowthBytes = growth
        handler?.session.growConnectionWindow(to: target)
    }

    func drained(_ stream: HTTP2Stream) {
        call(stream)?.queueDrained()
    }

    func bodySent(_ stream: HTTP2Stream) {
        call(stream)?.bodySent()
    }

    // MARK: The connection

    func settingsReceived() {
        settingsSeen = true
    }

    func pongReceived(_ payload: UInt64) {
        pingSentAt = nil
        if payload == Ping.drain { finishDrain() }
    }

    func goAwayReceived(lastStreamID: Int32, _ code: HTTP2ErrorCode, message: String) {}

    func floodFound(_ flood: HTTP2Flood) {
        closeReason = "flood of \(flood.rawValue)"
        services.configuration.connectionObserver?(.flooded(peer, flood))
    }

    func connectionClosed(_ error: (any Error)?) {
        // One that was gone before it began was never opened.
        guard handler != nil else { return }
        handler = nil
        farewells = []
        services.remove(self)
        services.memory.giveBackWindow(ownGrowthBytes)
        memory.release(framesCharge)
        framesCharge = 0
        memory.close()
        let reason = closeReason ?? error.map { String(describing: $0) }
        services.configuration.connectionObserver?(.closed(peer, reason: reason))
    }

    /// Looks after times; called several times in each of them.
    func tick(_ now: NIODeadline) {
        guard let handler else { return }
        let limits = services.configuration.limits
        if !settingsSeen, now - openedAt > limits.handshakeTime {
            closeReason = "HTTP/2 was not spoken in time"
            handler.abort()
            return
        }
        if let since = handler.session.unfinishedSince, !handler.session.isTerminated,
            now - NIODeadline.uptimeNanoseconds(since) > limits.requestTime
        {
            closeReason = "a frame or header was not complete in time"
            handler.terminate(.enhanceYourCalm)
            return
        }
        if let finalGoAwayAt, now >= finalGoAwayAt { finishDrain() }
        failSlowRequests(handler, now, limits)
        endFarewells(now)
        if let sent = pingSentAt {
            if handler.lastRead > sent {
                pingSentAt = nil
            } else if now - sent > limits.keepAliveTimeout {
                closeReason = "no answer to a keep-alive"
                handler.abort()
                return
            }
        } else if let interval = limits.keepAliveInterval, now - handler.lastRead >= interval {
            pingSentAt = now
            handler.session.ping(Ping.keepAlive)
        }
        if let idle = limits.idleTime, openCalls == 0, now - lastCallAt > idle, !isDraining {
            closeReason = "idle"
            drain()
        }
    }

    private func failSlowRequests(
        _ handler: HTTP2Handler, _ now: NIODeadline, _ limits: ServerLimits
    ) {
        guard openCalls > 0 else { return }
        var slow: [ServerCall] = []
        handler.session.forEachStream { stream in
            guard let call = call(stream) else { return }
            call.compactAll()
            guard !call.isRequestComplete,
                call.method?.kind == .unary || call.method?.kind == .serverStreaming,
                now - call.startedAt > limits.requestTime
            else { return }
            slow.append(call)
        }
        for call in slow {
            call.cancel(.deadline, GRPCStatus(.cancelled, "the request was not complete in time"))
        }
    }

    /// Resets the call's stream where what is queued for it is not taken soon.
    func awaitEnd(of call: ServerCall) {
        farewells.append((call: call, until: NIODeadline.now() + Self.farewellTime))
    }

    private func endFarewells(_ now: NIODeadline) {
        guard let first = farewells.first, first.until <= now else { return }
        let due = farewells.prefix { $0.until <= now }
        farewells.removeFirst(due.count)
        for farewell in due { farewell.call.abandonAnswer() }
    }

    /// No new calls: told first, enforced after a round trip, so that none is lost on the way.
    func drain() {
        guard !isDraining, let handler else { return }
        isDraining = true
        finalGoAwayAt = .now() + .seconds(1)
        handler.session.announceShutdown()
        handler.session.ping(Ping.drain)
    }

    private func finishDrain() {
        guard finalGoAwayAt != nil else { return }
        finalGoAwayAt = nil
        handler?.session.goAway(.noError)
    }

    /// Ends all calls and the connection.
    func stop() {
        guard let handler else { return }
        closeReason = closeReason ?? "shutdown"
        var calls: [ServerCall] = []
        handler.session.forEachStream { stream in
            if let call = call(stream) { calls.append(call) }
        }
        for call in calls {
            call.cancel(.shutdown, GRPCStatus(.unavailable, "the server is shutting down"))
        }
        // A session that is being terminated sends nothing else: what the callers are told goes
        // out before, as far as they read.
        services.eventLoop.assumeIsolated().execute { handler.terminate(.noError) }
    }
}
