// A channel's side on its event loop: its connections, the calls that wait for one, and when to
// connect again. Knows no message.

import DequeModule
import HTTP2
import NIOCore
import NIOPosix
import NIOSSL
import NIOTLS
import Synchronization

/// ```
///            call                connected               lost, or GOAWAY
///   idle ──────────> connecting ───────────> connected ─────────────────> idle
///    ^                  │ failed                 │
///    │     timer        v                        │ close()
///    └──────────── backingOff                  closed   (from every state)
/// ```
///
/// While it is connected, has as many calls open as the server takes on one connection, and none
/// of them makes room, further calls have extra connections, one after the other.
final class ChannelCore: @unchecked Sendable {
    /// Whether an extra connection may be made now.
    private enum Widening {
        case possible
        /// Unless room is made first: short calls take turns.
        case soon
        case connecting
        /// The last one could not be made.
        case resting
    }

    private enum State {
        case idle
        case connecting
        case backingOff(Scheduled<Void>)
        case connected(ClientConnection)
        case closed
    }

    let target: GRPCTarget
    let options: GRPCChannelOptions
    let eventLoop: any EventLoop
    let deadlines: DeadlineQueue
    let output = OutputBuffer()
    let http2: HTTP2Configuration
    /// Connections made so far on which the server has spoken.
    let connectionCount = Atomic(0)
    /// Connections that are gone, or take no more calls.
    let lossCount = Atomic(0)
    private let connector: ClientConnector
    private var state = State.idle
    private var waiting = Deque<ClientStream>()
    private var calls: [ObjectIdentifier: ClientStream] = [:]
    private var failures = 0
    /// Why there is no connection.
    private var lastFailure = GRPCStatus.transport(
        .unavailable, "there is no connection", notProcessed: true)
    /// All that are open, those too that take no calls any more.
    private var connections: [ObjectIdentifier: ClientConnection] = [:]
    /// Beside the one that is `connected`.
    private var extras: [ClientConnection] = []
    private var widening = Widening.possible
    private var templates: [RequestTemplate] = []

    init(target: GRPCTarget, options: GRPCChannelOptions, eventLoop: any EventLoop) {
        self.target = target
        self.options = options
        self.eventLoop = eventLoop
        deadlines = DeadlineQueue(eventLoop)
        var http2 = HTTP2Configuration()
        http2.maxHeaderListBytes = 60 * 1024
        self.http2 = http2
        connector = ClientConnector(target: target, options: options, eventLoop: eventLoop)
    }

    // MARK: Calls

    /// Begins a call, or begins it anew; it waits where there is no connection or no room.
    func start(_ call: ClientStream) {
        guard !call.isSettled else { return }
        if case .closed = state {
            call.settle(TransportStatus.channelClosed)
            return
        }
        if calls.updateValue(call, forKey: ObjectIdentifier(call)) == nil,
            let deadline = call.deadline
        {
            deadlines.add(call, at: deadline)
        }
        waiting.append(call)
        advance()
    }

    /// The call needs nothing any more.
    func forget(_ call: ClientStream) {
        guard calls.removeValue(forKey: ObjectIdentifier(call)) != nil else { return }
        if call.deadlineIndex >= 0 { deadlines.remove(call) }
        if !waiting.isEmpty { waiting.removeAll { $0 === call } }
    }

    /// Opens what waits, as far as the connection takes it.
    private func advance() {
        guard !waiting.isEmpty else { return }
        switch state {
        case .idle: connect()
        case .connected(let first):
            while let call = waiting.first {
                guard let connection = first.hasRoom ? first : extras.first(where: \.hasRoom) else {
                    return considerWidening(beside: first)
                }
                // Where it is not opened, the connection has made way for another.
                guard connection.open(call) else { return }
                waiting.removeFirst()
            }
        case .backingOff: failImpatient(lastFailure)
        case .connecting, .closed: break
        }
    }

    /// One side does not accept the other's TLS: that is no outage to be waited for.
    private func failImpatient(_ status: GRPCStatus) {
        for call in waiting where !call.options.waitForReady || status.isTLSRefusal {
            call.settle(status)
        }
    }

    // MARK: The connection

    private func connect() {
        state = .connecting
        connector.connect(core: self).assumeIsolated().whenComplete { result in
            switch result {
            case .success(let connection): self.connected(connection)
            case .failure(let error): self.connectFailed(error)
            }
        }
    }

    private func connected(_ connection: ClientConnection) {
        guard case .connecting = state else {
            connection.close()
            return
        }
        guard connection.isAlive else {
            backOff(ClientConnector.Failure.closedAtOnce)
            return
        }
        use(connection)
    }

    /// The first connection, on which calls are opened before any other.
    private func use(_ connection: ClientConnection) {
        failures = 0
        note(connection)
        state = .connected(connection)
        advance()
    }

    private func note(_ connection: ClientConnection) {
        connectionCount.add(1, ordering: .relaxed)
        connections[ObjectIdentifier(connection)] = connection
    }

    private func connectFailed(_ error: any Error) {
        guard case .connecting = state else { return }
        backOff(error)
    }

    private func backOff(_ error: any Error) {
        failures += 1
        let pause = backoffPause(after: failures)
        state = .backingOff(
            eventLoop.assumeIsolated().scheduleTask(in: pause) {
                guard case .backingOff = self.state else { return }
                self.state = .idle
                self.advance()
            })
        lastFailure = TransportStatus.cannotConnect(to: target, error)
        failImpatient(lastFailure)
    }

    private func backoffPause(after failures: Int) -> TimeAmount {
        let ceiling = min(
            options.longestBackoff.timeAmount.nanoseconds,
            options.firstBackoff.timeAmount.nanoseconds << min(failures - 1, 20))
        return .nanoseconds(Int64.random(in: 0...max(ceiling, 1)))
    }

    // MARK: Extra connections

    /// How long a call waits for room before it has another connection made.
    private static let patience = TimeAmount.milliseconds(250)

    /// Every connection has all the calls that its server takes. Where that is so for a while, and
    /// the same call waits longest, makes another one, if it may.
    private func considerWidening(beside first: ClientConnection) {
        guard widening == .possible, first.isFull, extras.count + 1 < options.mostConnections,
            let call = waiting.first
        else { return }
        widening = .soon
        eventLoop.assumeIsolated().scheduleTask(in: Self.patience) {
            self.widening = .possible
            if self.waiting.first === call, case .connected = self.state {
                self.widen()
            } else {
                self.advance()
            }
        }
    }

    private func widen() {
        widening = .connecting
        connector.connect(core: self).assumeIsolated().whenComplete { result in
            self.widening = .possible
            switch result {
            case .success(let connection): self.widened(by: connection)
            case .failure: self.rest()
            }
        }
    }

    private func widened(by connection: ClientConnection) {
        if case .closed = state { return connection.close() }
        guard connection.isAlive else { return rest() }
        guard case .connected = state else {
            // What it was to stand beside was lost meanwhile.
            if case .backingOff(let timer) = state { timer.cancel() }
            return use(connection)
        }
        connection.isExtra = true
        note(connection)
        extras.append(connection)
        advance()
    }

    /// The calls have a connection and wait for its room; another is tried for after a while.
    private func rest() {
        widening = .resting
        eventLoop.assumeIsolated().scheduleTask(in: options.longestBackoff.timeAmount) {
            self.widening = .possible
            self.advance()
        }
    }

    /// Where the connection was the first, an extra one takes its place.
    private func leave(_ connection: ClientConnection) {
        extras.removeAll { $0 === connection }
        guard case .connected(let first) = state, first === connection else { return }
        lossCount.add(1, ordering: .relaxed)
        guard !extras.isEmpty else {
            state = .idle
            return
        }
        let next = extras.removeFirst()
        next.isExtra = false
        state = .connected(next)
    }

    func roomChanged() {
        advance()
    }

    /// The connection takes no new calls; those it has go on.
    func connectionDrains(_ connection: ClientConnection) {
        leave(connection)
        advance()
    }

    func connectionClosed(_ connection: ClientConnection) {
        connections[ObjectIdentifier(connection)] = nil
        leave(connection)
        advance()
    }

    func close() {
        if case .closed = state { return }
        if case .backingOff(let timer) = state { timer.cancel() }
        state = .closed
        for call in calls.values { call.settle(TransportStatus.channelClosed) }
        waiting.removeAll()
        extras.removeAll()
        for connection in connections.values { connection.close() }
    }

    /// When no connection is left.
    func whenClosed() -> EventLoopFuture<Void> {
        let closed = connections.values.compactMap(\.closeFuture)
        return EventLoopFuture.andAllComplete(closed, on: eventLoop)
    }

    // MARK: Request fields

    /// Fields of the last requests, which mostly come again.
    private struct RequestTemplate {
        let path: String
        let metadata: Metadata
        let compression: CompressionAlgorithm
        let fields: HeaderList
    }

    private static let templatesKept = 16

    func requestHeaders(_ call: ClientStream) -> HeaderList {
        let options = call.options
        if call.deadline == nil {
            for template in templates
            where template.path == call.path && template.compression == options.compression
                && template.metadata == options.metadata
            {
                return template.fields
            }
        }
        let fields = makeHeaders(call)
        if call.deadline == nil {
            if templates.count == Self.templatesKept { templates.removeFirst() }
            templates.append(
                RequestTemplate(
                    path: call.path, metadata: options.metadata,
                    compression: options.compression, fields: fields))
        }
        return fields
    }

    private func makeHeaders(_ call: ClientStream) -> HeaderList {
        var fields = HeaderListBuilder()
        fields.append(":method", "POST")
        fields.append(":scheme", target.scheme)
        fields.append(":path", call.path)
        fields.append(":authority", target.authority)
        fields.append("te", "trailers")
        fields.append("content-type", "application/grpc")
        fields.append("user-agent", options.userAgent)
        fields.append("grpc-accept-encoding", "identity,gzip")
        if call.options.compression == .gzip { fields.append("grpc-encoding", "gzip") }
        if let deadline = call.deadline {
            let left = (deadline - .now()).nanoseconds
            fields.append(
                "grpc-timeout", TimeoutField.format(nanoseconds: left), isVolatile: true)
        }
        StatusFields.append(call.options.metadata, to: &fields)
        return HeaderList(fields)
    }
}
