// What the gateway counts, by name. Fed by what the gRPC server observes; knows no format.

import CoreMetrics
import GRPCWire
import HTTP2
import ProcgateInternal
import Synchronization

/// The gateway's metrics, over one registry.
final class GatewayMetrics: Sendable {
    private let registry = PrometheusRegistry(families: MetricFamily.all)

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

    private let version: String
    private let droppedLogLines: @Sendable () -> UInt64
    private let process = ProcessFigures()
    // Calls end on every loop.
    private let methods = Mutex<[MethodKey: MethodMetrics]>([:])
    private let openConnections = Atomic<Int>(0)
    private let openedConnections: Counter
    private let refusedConnections: Counter
    private let failedHandshakes: Counter
    private let floods: [HTTP2Flood: Counter]
    private let openCalls = Atomic<Int>(0)

    /// - Parameter droppedLogLines: how many there were so far.
    init(version: String, droppedLogLines: @escaping @Sendable () -> UInt64) {
        self.version = version
        self.droppedLogLines = droppedLogLines
        openedConnections = Counter(label: "procgate_connections_total", factory: registry)
        refusedConnections = Counter(
            label: "procgate_connections_refused_total", factory: registry)
        failedHandshakes = Counter(label: "procgate_handshakes_failed_total", factory: registry)
        let registry = registry
        floods = Dictionary(
            uniqueKeysWithValues: HTTP2Flood.allCases.map { flood in
                let kind = [("kind", "\(flood)")]
                return (
                    flood,
                    Counter(label: "procgate_floods_total", dimensions: kind, factory: registry)
                )
            })
    }

    /// A call has begun; `record` is told of its end.
    func callBegan() {
        openCalls.wrappingAdd(1, ordering: .relaxed)
    }

    func record(_ call: CallSummary) {
        openCalls.wrappingSubtract(1, ordering: .relaxed)
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
            openConnections.wrappingAdd(1, ordering: .relaxed)
        case .closed:
            openConnections.wrappingSubtract(1, ordering: .relaxed)
        case .refused:
            refusedConnections.increment()
        case .flooded(_, let flood):
            floods[flood]?.increment()
        case .handshakeFailed:
            failedHandshakes.increment()
        }
    }

    /// Everything as Prometheus text.
    ///
    /// - Parameters:
    ///   - census: nil where the supervisor does not answer: its figures are left out.
    ///   - restarts: supervisors that were started because one had died.
    func text(_ census: CensusReply?, restarts: Int) -> String {
        let own = [
            MetricSample("procgate_build_info", 1, labels: [("version", version)]),
            MetricSample("procgate_streams", Double(openCalls.load(ordering: .relaxed))),
            MetricSample(
                "procgate_connections", Double(openConnections.load(ordering: .relaxed))),
            MetricSample("procgate_log_lines_dropped_total", Double(droppedLogLines())),
            MetricSample("procgate_supervisor_restarts_total", Double(restarts)),
            MetricSample("procgate_supervisor_up", census == nil ? 0 : 1),
        ]
        return registry.text(adding: own + process.samples() + (census?.samples ?? []))
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
