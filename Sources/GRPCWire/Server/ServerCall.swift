// One call as its handler sees it: messages in, messages out, and how it ends.
// Knows no process; of the transport it knows its stream.

import DequeModule
import HTTP2
public import NIOCore
public import Protobuf

/// A call being served. Used by its handler, on `eventLoop` alone.
///
/// `@unchecked Sendable`: confined to `eventLoop`. A handler's task runs there; what it starts
/// elsewhere must come back before it uses the call. Its functions run where they are called
/// (they look for no executor, which would cost more than most of them do).
public final class ServerCall: @unchecked Sendable {
    /// When the call must be over.
    public let deadline: NIODeadline?
    /// Sent after the last message, with whatever status.
    @exclusivity(unchecked) public var trailers = Metadata()
    /// Whom the interceptor found the caller to be.
    @exclusivity(unchecked) public var principal: String?
    /// Left for the log by the handler: see ``CallSummary/note``. At most 256 bytes are kept.
    public var note: String? {
        get { keptNote }
        set { keptNote = newValue?.cut(toBytes: 256) }
    }
    /// Set before the handler's task is cancelled.
    @exclusivity(unchecked) public private(set) var cancellation: CancellationCause?
    /// How messages are compressed from now on; by default as the caller asked with
    /// `procgate-compress`. To be changed before the first message; a caller that does not
    /// accept gzip gets none.
    @exclusivity(unchecked) public var compression: CompressionAlgorithm
    /// Whether the message taken last came compressed.
    @exclusivity(unchecked) public private(set) var lastMessageWasCompressed = false

    @exclusivity(unchecked) private var keptNote: String?
    let stream: HTTP2Stream
    let head: RequestHead
    let method: ServerMethod?
    let startedAt: NIODeadline
    @exclusivity(unchecked) var deadlineIndex = -1
    let connection: ServerConnection
    @exclusivity(unchecked) private var task: Task<Void, Never>?
    @exclusivity(unchecked) var reader: MessageReader
    @exclusivity(unchecked) private(set) var isHeadSent = false
    @exclusivity(unchecked) private var isFinished = false
    @exclusivity(unchecked) private var isRunning = false
    @exclusivity(unchecked) private var requestEnded = false
    @exclusivity(unchecked) private(set) var announcedCompression = CompressionAlgorithm.identity
    @exclusivity(unchecked) private(set) var failure: GRPCStatus?
    @exclusivity(unchecked) private var cancellationHandlers: [(CancellationCause) -> Void] = []
    @exclusivity(unchecked) private var receiver: UnsafeContinuation<Void, Never>?
    @exclusivity(unchecked) private var sender: UnsafeContinuation<Void, Never>?
    @exclusivity(unchecked) var streamer: UnsafeContinuation<Void, Never>?
    /// Set where the handler has left the answer to a source.
    @exclusivity(unchecked) var handover: Handover?
    private var deflater: Deflater?
    @exclusivity(unchecked) private var messagesIn = 0
    @exclusivity(unchecked) private var messagesOut = 0
    /// Where the messages that are queued begin, in bytes of the body: the one that found the
    /// queue empty, and those behind it.
    @exclusivity(unchecked) private var firstStart = 0
    @exclusivity(unchecked) private var laterStarts = Deque<Int>()
    /// Of the request: see `RequestWindow.swift`.
    @exclusivity(unchecked) var window: RequestWindow
    /// What the connection holds for the call: see `CallMemory.swift`.
    @exclusivity(unchecked) var bufferedCharge = 0
    @exclusivity(unchecked) var queuedCharge = 0
    @exclusivity(unchecked) var reservedRoom = 0
    @exclusivity(unchecked) var otherCharges: [MemoryCharge] = []
    /// Of the message taken last. To be kept by whoever keeps its bytes beyond the call.
    @exclusivity(unchecked) public internal(set) var messageCharge: MemoryCharge?
    /// Counts among the calls of its connection that nobody vouches for.
    @exclusivity(unchecked) private var isGuest = false

    init(
        stream: HTTP2Stream, head: RequestHead, method: ServerMethod?,
        connection: ServerConnection, startedAt: NIODeadline, deadline: NIODeadline?
    ) {
        self.stream = stream
        self.head = head
        self.method = method
        self.connection = connection
        self.startedAt = startedAt
        self.deadline = deadline
        compression = head.wantsGzip && head.acceptsGzip ? .gzip : .identity
        let configuration = connection.services.configuration
        reader = MessageReader(
            limitBytes: min(configuration.limits.messageBytes, method?.maxMessageBytes ?? .max))
        window = RequestWindow(bytes: configuration.http2.streamWindowBytes)
    }

    /// As in `:path`: "/procgate.v1.ProcessService/Exec".
    public var path: String { head.path }
    /// The caller's metadata, without the protocol's own fields.
    public var metadata: Metadata { head.metadata }
    public var peer: PeerIdentity { connection.peer }
    public var eventLoop: any EventLoop { connection.services.eventLoop }
    /// Whether the caller can read compressed messages.
    public var acceptsGzip: Bool { head.acceptsGzip }

    /// Calls `handler` when the call is cancelled, before its task is; at once where it already is.
    public func onCancellation(_ handler: @escaping (CancellationCause) -> Void) {
        if let cancellation {
            handler(cancellation)
        } else if !isFinished {
            cancellationHandlers.append(handler)
        }
    }

    // MARK: Receiving

    /// The next message, decompressed; nil: the caller has half-closed.
    /// Room in the caller's window is given back as messages are taken.
    nonisolated(nonsending) public func nextMessage() async throws(GRPCStatus) -> ByteBuffer? {
        eventLoop.assertInEventLoop()
        while true {
            if let failure { throw failure }
            switch try take() {
            case .message(let message): return message
            case .end: return nil
            case .wait: await waitToReceive()
            }
            if Task.isCancelled, failure == nil { throw GRPCStatus(.cancelled, "the task ended") }
        }
    }

    private enum Taken {
        case message(ByteBuffer)
        case end
        case wait
    }

    private func take() throws(GRPCStatus) -> Taken {
        switch try reader.next() {
        case .message(let message):
            moveToHandler(message.bytes.readableBytes)
            stream.consume(reader.credit(isWaiting: false))
            if window.isAffected(receivedBytes: reader.totalBytes) {
                messageTaken(isLast: requestEnded)
            }
            settleBuffered()
            messagesIn += 1
            lastMessageWasCompressed = message.isCompressed
            guard message.isCompressed else { return .message(message.bytes) }
            guard head.encoding == .gzip else {
                throw GRPCStatus(.internal, "a compressed message without grpc-encoding")
            }
            return .message(try inflate(message.bytes))
        case .needsMore:
            if requestEnded {
                guard reader.isEmpty else {
                    throw GRPCStatus(.internal, "the request ends within a message")
                }
                return .end
            }
            if !takesOneMessage { releaseMessage() }
            awaitMessage()
            return .wait
        }
    }

    nonisolated(nonsending) private func waitToReceive() async {
        precondition(receiver == nil, "two tasks receive from one call")
        await withTaskCancellationHandler {
            await withUnsafeContinuation { receiver = $0 }
        } onCancel: {
            eventLoop.execute { self.wakeReceiver() }
        }
    }

    private func wakeReceiver() {
        guard let waiting = receiver else { return }
        receiver = nil
        waiting.resume()
    }

    // MARK: Sending

    /// Sends the head of the answer now, with this metadata. Ignored once the head was sent.
    public func sendInitialMetadata(_ metadata: Metadata) {
        guard !isHeadSent, !isFinished else { return }
        isHeadSent = true
        announcedCompression = head.acceptsGzip ? compression : .identity
        stream.respond(
            StatusFields.responseHead(compression: announcedCompression, metadata: metadata))
    }

    /// Sends one message; waits first while ``ServerLimits/queuedBytes`` are queued.
    /// - Parameter compress: false sends it as it is in a compressed call.
    nonisolated(nonsending) public func send<M: ProtobufMessage>(
        _ message: M, compress: Bool = true
    ) async throws(GRPCStatus) {
        if try sendNow(message, compress: compress) { return }
        try await waitForRoom()
        while let missing = try enqueue(message, compress: compress) {
            try await waitForMemory(missing)
        }
    }

    /// Sends one message if there is room for it now. False: it is to be sent by `send`, or to be
    /// let go of until there is room.
    public func sendNow<M: ProtobufMessage>(
        _ message: M, compress: Bool = true
    ) throws(GRPCStatus) -> Bool {
        guard try isReadyToSend() else { return false }
        return try enqueue(message, compress: compress) == nil
    }

    /// Sends one message that is encoded already, without its prefix.
    nonisolated(nonsending) public func send(encoded: ByteBuffer, compress: Bool = true)
        async throws(GRPCStatus)
    {
        if try !isReadyToSend() { try await waitForRoom() }
        let count = 5 + encoded.readableBytes
        while !takeQueued(count) { try await waitForMemory(count) }
        if announcedCompression == .gzip, compress {
            enqueue(encoded.withUnsafeReadableBytes { pack($0) }, isCompressed: true)
            settleQueued()
        } else {
            enqueue(encoded, isCompressed: false)
        }
    }

    /// Queues one message; else, the number of bytes that there is no room for now.
    func enqueue<M: ProtobufMessage>(_ message: M, compress: Bool) throws(GRPCStatus) -> Int? {
        if let failure { throw failure }
        var missing: Int?
        let isCompressed = announcedCompression == .gzip && compress
        message.withEncoder { encoder in
            let count = 5 + encoder.byteCount
            guard takeQueued(count) else {
                missing = count
                return
            }
            guard !isCompressed else {
                enqueue(pack(encoder.bytes()), isCompressed: true)
                return settleQueued()
            }
            noteMessageStart()
            stream.enqueue(count: count) { room in
                Self.writePrefix(room, count - 5, isCompressed: false)
                encoder.write(into: UnsafeMutableRawBufferPointer(rebasing: room[5...]))
            }
        }
        return missing
    }

    func pack(_ message: UnsafeRawBufferPointer) -> ByteBuffer {
        let deflater = deflater ?? Deflater()
        self.deflater = deflater
        return deflater.deflate(message)
    }

    private func enqueue(_ message: ByteBuffer, isCompressed: Bool) {
        noteMessageStart()
        stream.enqueue(count: 5) {
            Self.writePrefix($0, message.readableBytes, isCompressed: isCompressed)
        }
        stream.enqueue(message)
    }

    private func noteMessageStart() {
        messagesOut += 1
        let queued = stream.queuedBytes
        let sent = stream.sentBytes
        guard queued > 0 else {
            firstStart = sent
            if !laterStarts.isEmpty { laterStarts.removeAll() }
            return
        }
        while let start = laterStarts.first, start < sent { laterStarts.removeFirst() }
        laterStarts.append(sent + queued)
    }

    /// Drops the messages of which nothing was sent. One that was begun is sent to its end:
    /// trailers within a message would be a violation of the protocol.
    private func discardUnsent() {
        let sent = stream.sentBytes
        let next: Int? =
            firstStart >= sent ? firstStart : laterStarts.first(where: { $0 >= sent })
        stream.discardQueue(keeping: next.map { $0 - sent } ?? stream.queuedBytes)
        settleQueued()
        if stream.queuedBytes > 0 { connection.awaitEnd(of: self) }
    }

    static func writePrefix(
        _ room: UnsafeMutableRawBufferPointer, _ count: Int, isCompressed: Bool
    ) {
        room.storeBytes(of: isCompressed ? 1 : 0, as: UInt8.self)
        room.storeBytes(of: UInt32(count).bigEndian, toByteOffset: 1, as: UInt32.self)
    }

    nonisolated(nonsending) func waitForRoom() async throws(GRPCStatus) {
        while try !isReadyToSend() {
            stream.wantsDrained = true
            try await waitToSend()
        }
    }

    /// Whether less is queued than may be; the head of the answer is, at the least.
    private func isReadyToSend() throws(GRPCStatus) -> Bool {
        eventLoop.assertInEventLoop()
        if let failure { throw failure }
        if isFinished { throw GRPCStatus(.internal, "the call is over") }
        if !isHeadSent { sendInitialMetadata(Metadata()) }
        return stream.queuedBytes < connection.services.configuration.limits.queuedBytes
    }

    /// Until the queue has drained or there is memory, for all that is known.
    nonisolated(nonsending) func waitToSend() async throws(GRPCStatus) {
        precondition(sender == nil, "two tasks send to one call")
        await withTaskCancellationHandler {
            await withUnsafeContinuation { sender = $0 }
        } onCancel: {
            eventLoop.execute { self.wakeSender() }
        }
        if let failure { throw failure }
        if Task.isCancelled { throw GRPCStatus(.cancelled, "the task ended") }
    }

    func wakeSender() {
        guard let waiting = sender else { return }
        sender = nil
        waiting.resume()
    }

    /// Whether messages go out compressed, unless each says otherwise.
    public var compressesMessages: Bool { compression == .gzip && acceptsGzip }

    /// Runs `operation` beside the handler, on the call's event loop. Whoever starts it ends it.
    public func runBeside(
        _ operation: @escaping @Sendable () async -> Void
    ) -> Task<Void, Never> {
        connection.services.executor.start(operation)
    }

    /// Ends the call with `status`, from beside its handler, whose task is cancelled.
    /// - Parameter isWithinMessage: the rest of the message that was begun last cannot be sent:
    ///   trailers would come within it, so that the stream is reset instead.
    public func fail(_ status: GRPCStatus, isWithinMessage: Bool = false) {
        guard cancellation == nil, !isFinished else { return }
        failure = status
        if isWithinMessage {
            stream.discardQueue()
            stream.reset(.internalError)
        } else {
            discardUnsent()
        }
        finish(status, sendsStatus: !isWithinMessage)
        wakeReceiver()
        wakeSender()
        wakeStreamer()
        task?.cancel()
    }

    // MARK: Life

    /// Starts the handler, synchronously up to its first suspension.
    func start() {
        guard let method, !isFinished, !isRunning else { return }
        isRunning = true
        let started = connection.services.executor.start { await self.run(method) }
        // A handler that is done already needs no cancelling.
        if isRunning { task = started }
    }

    nonisolated(nonsending) private func run(_ method: ServerMethod) async {
        do {
            try connection.services.configuration.interceptor?(self)
            try await method.handler(self)
            if handover == nil { finish(.ok) }
        } catch let status as GRPCStatus {
            finish(status.code == .ok ? GRPCStatus(.unknown, status.message) : status)
        } catch is CancellationError {
            finish(GRPCStatus(.cancelled))
        } catch {
            finish(GRPCStatus(.internal, "the handler failed"))
        }
        isRunning = false
        task = nil
        if isFinished { cancellationHandlers.removeAll() }
    }

    /// Ends the call with `status`. Nothing happens the second time.
    func finish(_ status: GRPCStatus, sendsStatus: Bool = true) {
        guard !isFinished else { return }
        isFinished = true
        if !stream.isClosed, sendsStatus {
            if isHeadSent {
                stream.end(trailers: StatusFields.trailers(status, metadata: trailers))
            } else if status.code == .ok {
                sendHeadForEnd()
                stream.end(trailers: StatusFields.trailers(status, metadata: trailers))
            } else {
                stream.respondOnly(StatusFields.trailersOnly(status, metadata: trailers))
            }
        }
        observe(status)
        endHandover(status)
        if !reader.isEmpty { reader.discard() }
        if window.isCharged { giveUpMessage() }
        releaseRequest()
    }

    private func sendHeadForEnd() {
        isHeadSent = true
        stream.respond(StatusFields.responseHead)
    }

    private func observe(_ status: GRPCStatus) {
        guard let observer = connection.services.configuration.observer else { return }
        observer(
            CallSummary(
                path: path, isKnownMethod: method != nil, peer: peer, principal: principal,
                code: status.code, message: status.message, cancellation: cancellation,
                duration: .now() - startedAt, messagesIn: messagesIn, messagesOut: messagesOut,
                bytesIn: reader.totalBytes, bytesOut: stream.sentBytes + stream.queuedBytes,
                note: note))
    }

    /// Ends the call because of what happened outside of its handler.
    func cancel(_ cause: CancellationCause, _ status: GRPCStatus) {
        guard cancellation == nil, !isFinished || isRunning else { return }
        cancellation = cause
        failure = status
        if !isFinished, !stream.isClosed { discardUnsent() }
        finish(status)
        let handlers = cancellationHandlers
        cancellationHandlers = []
        for handler in handlers { handler(cause) }
        wakeReceiver()
        wakeSender()
        wakeStreamer()
        task?.cancel()
    }

    // MARK: From the connection

    var isOver: Bool { isFinished }
    var isRequestComplete: Bool { requestEnded || isFinished }

    func received(_ bytes: ByteBuffer) {
        guard !isFinished else {
            stream.consume(bytes.readableBytes)
            return
        }
        reader.append(bytes)
        settleBuffered()
        wakeReceiver()
    }

    /// The end of a read: what is still here must not hold a large buffer.
    func compact() {
        reader.compact()
    }

    /// Now and again: what its handler does not take soon.
    func compactAll() {
        reader.compactAll()
    }

    func receivedEnd() {
        requestEnded = true
        wakeReceiver()
    }

    /// The stream is over, be the call or not.
    func streamClosed() {
        if deadlineIndex >= 0 { connection.services.deadlines.remove(self) }
        if isGuest { connection.guests -= 1 }
        settleQueued()
    }

    /// Counts the call among those of its connection that nobody vouches for, until its stream
    /// is closed. False: there are `limit` of them already.
    public func enterAsGuest(limit: Int) -> Bool {
        guard !isGuest, !stream.isClosed else { return true }
        guard connection.guests < limit else { return false }
        connection.guests += 1
        isGuest = true
        return true
    }

    /// Much of what was queued has been sent.
    func queueDrained() {
        settleQueued()
        wakeSender()
    }

    /// The caller has not made room in time for what is left of a call that is over.
    func abandonAnswer() {
        guard isFinished, !stream.isClosed else { return }
        stream.discardQueue()
        stream.reset(.cancel)
    }
}
