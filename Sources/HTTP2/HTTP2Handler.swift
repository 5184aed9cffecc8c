// HTTP2Session in a NIO channel: receive, act, send. Output is produced in pieces and only
// while the socket takes them, so that a peer that does not read costs one piece of memory.
// Knows no gRPC: what happens is told to a delegate.

public import NIOCore

/// What a connection tells the layer above. Called on the connection's event loop.
public protocol HTTP2ConnectionDelegate: AnyObject {
    func connectionStarted(_ connection: HTTP2Handler)
    func headersReceived(_ stream: HTTP2Stream)
    /// `bytes` is a slice of what was read; it counts against the peer's window until consumed.
    func dataReceived(_ stream: HTTP2Stream, _ bytes: ByteBuffer)
    func trailersReceived(_ stream: HTTP2Stream)
    func endReceived(_ stream: HTTP2Stream)
    /// The stream is over. Nil: its connection was lost.
    func closed(_ stream: HTTP2Stream, _ code: HTTP2ErrorCode?)
    func drained(_ stream: HTTP2Stream)
    func bodySent(_ stream: HTTP2Stream)
    func settingsReceived()
    func pongReceived(_ payload: UInt64)
    func goAwayReceived(lastStreamID: Int32, _ code: HTTP2ErrorCode, message: String)
    func floodFound(_ flood: HTTP2Flood)
    /// All of one read has been told.
    func batchEnded()
    /// How many bytes may be produced now, of `limit` that usually are; at least 1.
    func outputRoom(_ limit: Int) -> Int
    /// So many bytes more, or fewer, wait for the socket to take them.
    func waitingOutputChanged(by bytes: Int)
    func connectionClosed(_ error: (any Error)?)
}

extension HTTP2ConnectionDelegate {
    public func outputRoom(_ limit: Int) -> Int { limit }
    public func waitingOutputChanged(by bytes: Int) {}
}

/// The output buffer of one event loop, shared by its connections: mostly it is written at once.
public final class OutputBuffer {
    var bytes = ByteBuffer()
    private var lent: [LentBytes] = []

    public init() {}

    /// An empty list with room, which nobody else has meanwhile.
    func takeLent() -> [LentBytes] {
        defer { lent = [] }
        return lent
    }

    func giveBack(_ list: inout [LentBytes]) {
        list.removeAll(keepingCapacity: true)
        swap(&lent, &list)
    }
}

/// The channel handler at the end of the pipeline of an HTTP/2 connection.
public final class HTTP2Handler: ChannelInboundHandler {
    public typealias InboundIn = ByteBuffer
    public typealias OutboundOut = ByteBuffer

    public let session: HTTP2Session
    /// Bytes read from the socket so far, to see whether the peer is alive.
    public private(set) var bytesReceived: UInt64 = 0
    public private(set) var bytesSent: UInt64 = 0
    /// When the socket was last read from.
    public private(set) var lastRead = NIODeadline.now()

    /// Pieces written before other connections of the loop have their turn.
    private static let piecesAtOnce = 4
    /// How long a connection may stay half-closed after a termination.
    private static let lingerTime = TimeAmount.seconds(1)

    private let delegate: any HTTP2ConnectionDelegate
    private let outputBuffer: OutputBuffer
    private let writesDirectly: Bool
    /// The socket that is written to without the channel; nil where something lies in between.
    private var socket: DirectSocket?
    /// Writes of the channel that have not been done yet: what follows must wait behind them.
    @exclusivity(unchecked) private var waitingWrites = 0
    @exclusivity(unchecked) private var context: ChannelHandlerContext?
    @exclusivity(unchecked) private var isReading = false
    @exclusivity(unchecked) private var isFlushing = false
    @exclusivity(unchecked) private var flushScheduled = false
    @exclusivity(unchecked) private var isClosing = false
    private var isLingering = false
    private var isStarted = false
    private var failure: (any Error)?
    private var flushTask: () -> Void = {}

    /// - Parameter writesDirectly: nothing between this handler and the socket changes what is
    ///   written (no TLS): where the channel has one, it is written to at once.
    public init(
        role: HTTP2Session.Role, configuration: HTTP2Configuration, output: OutputBuffer,
        writesDirectly: Bool = false, delegate: any HTTP2ConnectionDelegate
    ) {
        session = HTTP2Session(
            role: role, configuration: configuration, now: NIODeadline.now().uptimeNanoseconds)
        self.delegate = delegate
        outputBuffer = output
        self.writesDirectly = writesDirectly
    }

    public var channel: (any Channel)? { context?.channel }

    // MARK: ChannelInboundHandler

    public func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        if context.channel.isActive { start() }
    }

    public func channelActive(context: ChannelHandlerContext) {
        start()
    }

    private func start() {
        guard !isStarted else { return }
        isStarted = true
        if writesDirectly, let context { socket = DirectSocket(of: context) }
        // Both hold the handler until the connection is lost: a weak reference would make each
        // of its retains slow.
        flushTask = { self.flush() }
        session.outputWanted = { self.scheduleFlush() }
        delegate.connectionStarted(self)
        flush()
    }

    public func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let buffer = unwrapInboundIn(data)
        guard !isClosing, failure == nil else { return }
        isReading = true
        bytesReceived += UInt64(buffer.readableBytes)
        lastRead = NIODeadline.now()
        let now = lastRead.uptimeNanoseconds
        buffer.withUnsafeReadableBytes { bytes in
            do throws(HTTP2Error) {
                try session.receive(bytes, now: now)
            } catch {
                failure = error
            }
        }
        dispatch(buffer)
        delegate.batchEnded()
        if failure != nil || session.isTerminated { closeAfterLinger(context) }
    }

    public func channelReadComplete(context: ChannelHandlerContext) {
        isReading = false
        flush()
        context.fireChannelReadComplete()
    }

    public func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable { flush() }
        context.fireChannelWritabilityChanged()
    }

    public func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if failure == nil { failure = error }
        context.close(promise: nil)
    }

    public func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let event = event as? ChannelEvent, event == .inputClosed {
            context.close(promise: nil)
            return
        }
        context.fireUserInboundEventTriggered(event)
    }

    public func channelInactive(context: ChannelHandlerContext) {
        connectionLost()
        context.fireChannelInactive()
    }

    public func handlerRemoved(context: ChannelHandlerContext) {
        connectionLost()
        self.context = nil
    }

    private func connectionLost() {
        guard self.context != nil else { return }
        isClosing = true
        socket = nil
        session.close()
        flushTask = {}
        dispatch(ByteBuffer())
        self.context = nil
        delegate.connectionClosed(failure)
    }

    // MARK: Events

    private func dispatch(_ input: ByteBuffer) {
        while session.hasEvents {
            var events = session.takeEvents()
            for event in events { tell(event, input) }
            session.recycle(&events)
        }
    }

    private func tell(_ event: HTTP2Event, _ input: ByteBuffer) {
        switch event {
        case .headers(let stream): delegate.headersReceived(stream)
        case .data(let stream, let offset, let count):
            // A stream that is closed by now was complete: what came before is still told.
            guard let slice = input.getSlice(at: input.readerIndex + offset, length: count)
            else { return }
            delegate.dataReceived(stream, slice)
        case .trailers(let stream): delegate.trailersReceived(stream)
        case .end(let stream): delegate.endReceived(stream)
        case .closed(let stream, let code): delegate.closed(stream, code)
        case .drained(let stream): delegate.drained(stream)
        case .bodySent(let stream): delegate.bodySent(stream)
        case .settings: delegate.settingsReceived()
        case .pong(let payload): delegate.pongReceived(payload)
        case .goAway(let last, let code, let message):
            delegate.goAwayReceived(lastStreamID: last, code, message: message)
        case .flood(let flood): delegate.floodFound(flood)
        }
    }

    // MARK: Output

    /// Writes what is to be sent, at the end of this turn of the event loop.
    public func scheduleFlush() {
        guard !flushScheduled, !isReading, !isFlushing, let context else { return }
        flushScheduled = true
        context.eventLoop.assumeIsolatedUnsafeUnchecked().execute(flushTask)
    }

    private func flush() {
        flushScheduled = false
        guard !isFlushing, !isReading, let context, isStarted else { return }
        isFlushing = true
        defer { isFlushing = false }
        var written = 0
        while !isClosing, context.channel.isWritable {
            if written == Self.piecesAtOnce {
                flushScheduled = true
                context.eventLoop.assumeIsolatedUnsafeUnchecked().execute(flushTask)
                break
            }
            written += 1
            let limit = delegate.outputRoom(session.configuration.outputPieceBytes)
            var piece = takeOutput(limit)
            var more = false
            let count: Int
            do throws(HTTP2Error) {
                if let socket, waitingWrites == 0, context.channel.isActive {
                    var lent = outputBuffer.takeLent()
                    more = try session.write(into: &piece, lending: &lent, limit: limit)
                    let rest = socket.write(piece, lent)
                    count = piece.readableBytes + lent.reduce(0) { $0 + $1.bytes.count }
                    outputBuffer.giveBack(&lent)
                    if let rest { write(rest, to: context) }
                } else {
                    more = try session.write(into: &piece, limit: limit)
                    count = piece.readableBytes
                    if count > 0 { write(piece, to: context) }
                }
            } catch {
                failure = failure ?? error
                context.close(promise: nil)
                return
            }
            bytesSent += UInt64(count)
            outputBuffer.bytes = piece
            // What the events lead to is to be sent as well, be it that nothing was until now.
            let hadEvents = session.hasEvents
            if hadEvents { dispatch(ByteBuffer()) }
            if !more && count == 0 && !hadEvents { break }
        }
        if session.isFinished { finish() }
        // Should the peer not read what is left to be said.
        if session.isTerminated { closeAfterLinger(context) }
    }

    /// By way of the channel, which keeps what the socket does not take.
    private func write(_ piece: ByteBuffer, to context: ChannelHandlerContext) {
        let count = piece.readableBytes
        waitingWrites += 1
        delegate.waitingOutputChanged(by: count)
        let promise = context.eventLoop.makePromise(of: Void.self)
        promise.futureResult.assumeIsolatedUnsafeUnchecked().whenComplete { _ in
            self.waitingWrites -= 1
            self.delegate.waitingOutputChanged(by: -count)
        }
        context.writeAndFlush(wrapOutboundOut(piece), promise: promise)
    }

    /// The loop's buffer where nobody else holds its storage, else a new one.
    private func takeOutput(_ limit: Int) -> ByteBuffer {
        var piece = outputBuffer.bytes
        outputBuffer.bytes = ByteBuffer()
        if piece.capacity < limit {
            piece = ByteBufferAllocator().buffer(capacity: limit + 32 * 1024)
        }
        piece.clear()
        return piece
    }

    /// Nothing will be sent any more: closes this side, and leaves the peer time to read.
    private func finish() {
        guard !isClosing, let context else { return }
        isClosing = true
        context.close(mode: .output, promise: nil)
        closeAfterLinger(context)
    }

    private func closeAfterLinger(_ context: ChannelHandlerContext) {
        guard !isLingering else { return }
        isLingering = true
        let channel = context.channel
        context.eventLoop.scheduleTask(in: Self.lingerTime) { channel.close(promise: nil) }
    }

    /// Ends the connection at once: GOAWAY with `code`, and closed.
    public func terminate(_ code: HTTP2ErrorCode, because error: (any Error)? = nil) {
        if failure == nil { failure = error }
        session.terminate(code)
        flush()
        // Should the peer not read what is left to be said.
        if !isClosing, let context { closeAfterLinger(context) }
    }

    /// Closes the socket without another word.
    public func abort(because error: (any Error)? = nil) {
        if failure == nil { failure = error }
        context?.close(promise: nil)
    }
}
