// What the gateway counts, by name. Fed by what the gRPC server observes and by the
// supervisor's figures; knows no format.

import CoreMetrics
import GRPCWire
import ProcgateInternal
import Synchronization

/// The gateway's metrics, over one registry.
final class GatewayMetrics: Sendable {
    let registry = PrometheusRegistry(help: [
        "procgate_calls_total": "Finished calls.",
        "procgate_call_duration_seconds": "Calls, streams with their whole length.",
        "procgate_received_bytes_total": "Bytes of request bodies.",
        "procgate_sent_bytes_total": "Bytes of response bodies.",
        "procgate_connections": "Connections open now.",
        "procgate_connections_total": "Connections opened.",
        "procgate_connections_refused_total": "Connections beyond the limit.",
        "procgate_handshakes_failed_total": "Connections on which TLS or HTTP/2 failed.",
        "procgate_floods_total": "Connections cut off, by what the peer sent too much of.",
        "procgate_streams": "Calls that run now.",
        "procgate_supervisor_up": "1 while there is a supervisor.",
        "procgate_supervisor_restarts_total": "Supervisors started because one had died.",
        "procgate_processes": "Processes that the supervisor knows, by status.",
        "procgate_queue_length": "Processes that wait for a place.",
        "procgate_retained_bytes": "Memory of all retained output.",
        "procgate_spawn_seconds": "Starts of processes, and their time together.",
    ])

    private struct MethodKey: Hashable {
        let path: String
        let code: GRPCCode
    }

    /// The handles of one method and code.
    private struct MethodMetrics {
        let calls: Counter
        let duration: Timer
        let received: Counter
        let sent: Counter
    }

    // Calls end on every loop.
    private let methods = Mutex<[MethodKey: MethodMetrics]>([:])
    private let openConnections = Atomic<Int>(0)
    private let openedConnections: Counter
    private let refusedConnections: Counter
    private let failedHandshakes: Counter
    private let connections: Gauge
    private let supervisorRestarts: Counter
    private let knownRestarts = Atomic<Int>(0)
    private let openStreams = Atomic<Int>(0)
    private let streams: Gauge

    init() {
        openedConnections = Counter(label: "procgate_connections_total", factory: registry)
        refusedConnections = Counter(
            label: "procgate_connections_refused_total", factory: registry)
        failedHandshakes = Counter(label: "procgate_handshakes_failed_total", factory: registry)
        supervisorRestarts = Counter(
            label: "procgate_supervisor_restarts_total", factory: registry)
        connections = Gauge(label: "procgate_connections", factory: registry)
        connections.record(0)
        streams = Gauge(label: "procgate_streams", factory: registry)
        streams.record(0)
    }

    /// A call's handler began.
    func streamOpened() {
        streams.record(openStreams.wrappingAdd(1, ordering: .relaxed).newValue)
    }

    func streamClosed() {
        streams.record(openStreams.wrappingSubtract(1, ordering: .relaxed).newValue)
    }

    func record(_ call: CallSummary) {
        // A path that nobody serves must not become a label.
        let path = call.isKnownMethod ? call.path : "unknown"
        let metrics = methods.withLock { methods in
            let key = MethodKey(path: path, code: call.code)
            if let known = methods[key] { return known }
            let made = makeMetrics(path, call.code)
            methods[key] = made
            return made
        }
        metrics.calls.increment()
        metrics.duration.recordNanoseconds(call.duration.nanoseconds)
        metrics.received.increment(by: call.bytesIn)
        metrics.sent.increment(by: call.bytesOut)
    }

    func record(_ event: ConnectionEvent) {
        switch event {
        case .opened:
            openedConnections.increment()
            connections.record(openConnections.wrappingAdd(1, ordering: .relaxed).newValue)
        case .closed:
            connections.record(openConnections.wrappingSubtract(1, ordering: .relaxed).newValue)
        case .refused:
            refusedConnections.increment()
        case .flooded(_, let flood):
            Counter(
                label: "procgate_floods_total", dimensions: [("kind", "\(flood)")],
                factory: registry
            ).increment()
        case .handshakeFailed:
            failedHandshakes.increment()
        }
    }

    /// - Parameter count: of all restarts so far.
    func recordRestarts(_ count: Int) {
        let known = knownRestarts.exchange(count, ordering: .relaxed)
        supervisorRestarts.increment(by: max(0, count - known))
    }

    private func makeMetrics(_ path: String, _ code: GRPCCode) -> MethodMetrics {
        let method = [("method", path)]
        return MethodMetrics(
            calls: Counter(
                label: "procgate_calls_total", dimensions: method + [("code", code.name)],
                factory: registry),
            duration: Timer(
                label: "procgate_call_duration_seconds", dimensions: method, factory: registry),
            received: Counter(
                label: "procgate_received_bytes_total", dimensions: method, factory: registry),
            sent: Counter(
                label: "procgate_sent_bytes_total", dimensions: method, factory: registry))
    }
}
