// One connection of a client: its streams belong to calls. Knows neither sockets nor TLS.

import HTTP2
import NIOCore

final class ClientConnection: HTTP2ConnectionDelegate {
    private static let keepAlivePing: UInt64 = 0x6b65_6570

    private let core: ChannelCore
    private var handler: HTTP2Handler?
    private var openCalls = 0
    private var isDraining = false
    private var settingsSeen = false
    private var ticker: RepeatedTask?
    private var pingSentAt: NIODeadline?
    private var lastCallAt = NIODeadline.now()

    init(core: ChannelCore) {
        self.core = core
    }

    /// Whether another call may be opened now.
    var hasRoom: Bool {
        guard let handler, !isDraining else { return false }
        // Before its settings are here the peer is taken to allow a hundred, as RFC 9113 advises.
        let allowed = settingsSeen ? handler.session.peerMaxConcurrentStreams : 100
        return openCalls < allowed
    }

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

    /// Ends the connection; streams that are open are lost.
    func close() {
        isDraining = true
        handler?.terminate(.noError)
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
            core.options.idleTimeout,
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
        if openCalls == 0, !isDraining, let idle = core.options.idleTimeout?.timeAmount,
            now - lastCallAt >= idle
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
        if !settingsSeen {
            settingsSeen = true
            core.connectionProved()
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
        core.connectionClosed(self, wasProved: settingsSeen)
    }
}
