// One connection of a client: its streams belong to calls. Knows neither sockets nor TLS.

import HTTP2
import NIOCore

final class ClientConnection: HTTP2ConnectionDelegate {
    private static let keepAlivePing: UInt64 = 0x6b65_6570

    private let core: ChannelCore
    /// Kept until the server has sent its settings: only then can it be sent calls.
    private var ready: EventLoopPromise<NIOLoopBound<ClientConnection>>?
    private var handler: HTTP2Handler?
    private var openCalls = 0
    private var isDraining = false
    private var isClosing = false
    private var ticker: RepeatedTask?
    private var pingSentAt: NIODeadline?
    private var lastCallAt = NIODeadline.now()
    /// One beside the first: closed soon when it has no calls.
    var isExtra = false

    init(core: ChannelCore, ready: EventLoopPromise<NIOLoopBound<ClientConnection>>) {
        self.core = core
        self.ready = ready
    }

    /// Whether another call may be opened now.
    var hasRoom: Bool {
        guard let handler, !isDraining else { return false }
        return openCalls < handler.session.peerMaxConcurrentStreams
    }

    /// Has calls, and room for none more: another connection would help.
    var isFull: Bool { openCalls > 0 && !hasRoom }

    var isAlive: Bool { handler != nil }

    var closeFuture: EventLoopFuture<Void>? { handler?.channel?.closeFuture }

    func open(_ call: ClientStream) -> Bool {
        guard let handler else { return false }
        guard call.open(on: self, handler.session) else {
            // The stream numbers are used up, or a GOAWAY came.
            startDraining()
            return false
        }
        openCalls += 1
        return true
    }

    func callEnded() {
        openCalls -= 1
        lastCallAt = .now()
        if isDraining, openCalls == 0 { close() }
        core.roomChanged()
    }

    /// Ends the connection; streams that are open are lost. It does so with the loop's next turn:
    /// nghttp2 drops what is queued when it terminates, and the resets of calls that were ended
    /// before have to go out.
    func close() {
        isDraining = true
        guard !isClosing, handler != nil else { return }
        isClosing = true
        core.eventLoop.assumeIsolated().execute { self.handler?.terminate(.noError) }
    }

    private func startDraining() {
        guard !isDraining else { return }
        isDraining = true
        core.connectionDrains(self)
        if openCalls == 0 { close() }
    }

    private func call(_ stream: HTTP2Stream) -> ClientStream? {
        stream.context.map { unsafeDowncast($0, to: ClientStream.self) }
    }

    // MARK: HTTP2ConnectionDelegate

    func connectionStarted(_ connection: HTTP2Handler) {
        handler = connection
        let times = [
            core.options.keepAliveInterval, core.options.keepAliveTimeout,
            core.options.idleTimeout, core.options.extraIdleTimeout,
        ]
        let shortest = times.compactMap { $0?.timeAmount.nanoseconds }.min() ?? 0
        let interval = TimeAmount.nanoseconds(min(max(shortest / 4, 5_000_000), 1_000_000_000))
        ticker = core.eventLoop.scheduleRepeatedTask(initialDelay: interval, delay: interval) {
            [loopBound = NIOLoopBound(self, eventLoop: core.eventLoop)] _ in loopBound.value.tick()
        }
    }

    private func tick() {
        guard let handler else { return }
        let now = NIODeadline.now()
        if let sent = pingSentAt {
            if handler.lastRead > sent {
                pingSentAt = nil
            } else if now - sent > core.options.keepAliveTimeout.timeAmount {
                handler.abort()
            }
        } else if openCalls > 0, let interval = core.options.keepAliveInterval?.timeAmount,
            now - handler.lastRead >= interval
        {
            pingSentAt = now
            handler.session.ping(Self.keepAlivePing)
        }
        if openCalls == 0, ready == nil, !isDraining,
            let idle = isExtra ? core.options.extraIdleTimeout : core.options.idleTimeout,
            now - lastCallAt >= idle.timeAmount
        {
            startDraining()
        }
    }

    func headersReceived(_ stream: HTTP2Stream) {
        guard let call = call(stream), let block = stream.headers else { return }
        if stream.headersOverLimit {
            call.settle(GRPCStatus(.resourceExhausted, "the answer's header is too large"))
        } else {
            call.headersReceived(block)
        }
    }

    func dataReceived(_ stream: HTTP2Stream, _ bytes: ByteBuffer) {
        if let call = call(stream) {
            call.dataReceived(bytes)
        } else {
            stream.consume(bytes.readableBytes)
        }
    }

    func trailersReceived(_ stream: HTTP2Stream) {
        guard let block = stream.trailers else { return }
        call(stream)?.trailersReceived(block)
    }

    func endReceived(_ stream: HTTP2Stream) {
        call(stream)?.endReceived()
    }

    func closed(_ stream: HTTP2Stream, _ code: HTTP2ErrorCode?) {
        call(stream)?.streamClosed(code)
    }

    func drained(_ stream: HTTP2Stream) {
        call(stream)?.noteRoom()
    }

    func bodySent(_ stream: HTTP2Stream) {}

    func settingsReceived() {
        if let ready {
            self.ready = nil
            lastCallAt = .now()
            ready.succeed(NIOLoopBound(self, eventLoop: core.eventLoop))
        }
        core.roomChanged()
    }

    func pongReceived(_ payload: UInt64) {
        pingSentAt = nil
    }

    func goAwayReceived(lastStreamID: Int32, _ code: HTTP2ErrorCode, message: String) {
        startDraining()
    }

    func floodFound(_ flood: HTTP2Flood) {}

    func batchEnded() {}

    func connectionClosed(_ error: (any Error)?) {
        handler = nil
        ticker?.cancel()
        ticker = nil
        ready?.fail(error ?? ClientConnector.Failure.closedAtOnce)
        ready = nil
        core.connectionClosed(self)
    }
}
