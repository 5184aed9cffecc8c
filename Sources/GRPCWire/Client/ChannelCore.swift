// A channel's side on its event loop: the connection, the calls that wait for one, and when to
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
final class ChannelCore: @unchecked Sendable {
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
    private let connector: ClientConnector
    private var state = State.idle
    private var waiting = Deque<ClientStream>()
    private var calls: [ObjectIdentifier: ClientStream] = [:]
    private var failures = 0
    private var connections: [ObjectIdentifier: ClientConnection] = [:]
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
        case .connected(let connection):
            while let call = waiting.first, connection.hasRoom {
                // Where it is not opened, the connection has made way for another.
                guard connection.open(call) else { return }
                waiting.removeFirst()
            }
        case .backingOff:
            failImpatient(
                .transport(.unavailable, "no connection to \(target)", notProcessed: true))
        case .connecting, .closed: break
        }
    }

    private func failImpatient(_ status: GRPCStatus) {
        for call in waiting where !call.options.waitForReady { call.settle(status) }
    }

    // MARK: The connection

    private func connect() {
        state = .connecting
        connector.connect(core: self).assumeIsolated().whenComplete { result in
            switch result {
            case .success(let connection): self.connected(connection)
            case .failure(let error): self.connectFailed(String(describing: error))
            }
        }
    }

    private func connected(_ connection: ClientConnection) {
        guard case .connecting = state else {
            connection.close()
            return
        }
        guard connection.isAlive else {
            backOff("the server closed the connection at once")
            return
        }
        failures = 0
        connectionCount.add(1, ordering: .relaxed)
        connections[ObjectIdentifier(connection)] = connection
        state = .connected(connection)
        advance()
    }

    private func connectFailed(_ reason: String) {
        guard case .connecting = state else { return }
        backOff(reason)
    }

    private func backOff(_ reason: String) {
        failures += 1
        let ceiling = min(
            options.longestBackoff.timeAmount.nanoseconds,
            options.firstBackoff.timeAmount.nanoseconds << min(failures - 1, 20))
        let pause = TimeAmount.nanoseconds(Int64.random(in: 0...max(ceiling, 1)))
        state = .backingOff(
            eventLoop.assumeIsolated().scheduleTask(in: pause) {
                guard case .backingOff = self.state else { return }
                self.state = .idle
                self.advance()
            })
        failImpatient(
            .transport(.unavailable, "cannot connect to \(target): \(reason)", notProcessed: true))
    }

    func roomChanged() {
        advance()
    }

    /// The connection takes no new calls; those it has go on.
    func connectionDrains(_ connection: ClientConnection) {
        if case .connected(let current) = state, current === connection { state = .idle }
        advance()
    }

    func connectionClosed(_ connection: ClientConnection) {
        connections[ObjectIdentifier(connection)] = nil
        guard case .connected(let current) = state, current === connection else { return }
        state = .idle
        advance()
    }

    func close() {
        if case .closed = state { return }
        if case .backingOff(let timer) = state { timer.cancel() }
        state = .closed
        for call in calls.values { call.settle(TransportStatus.channelClosed) }
        waiting.removeAll()
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
