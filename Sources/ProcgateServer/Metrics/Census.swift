// The supervisor's figures, asked for when the metrics are read.

import CoreMetrics
import NIOCore
import ProcgateInternal
import ProcgateV1

extension Worker {
    /// Asks the supervisor how things stand and records it; succeeds in any case, since
    /// the gateway's own figures do not depend on it.
    func refresh(_ metrics: GatewayMetrics, _ done: EventLoopPromise<Void>) {
        eventLoop.execute { [self] in
            metrics.recordRestarts(keeper.restarts)
            guard let link, !link.isLost else {
                metrics.recordAbsence()
                return done.succeed()
            }
            link.send(.census(Census())) { result in
                if case .success(.census(let census)) = result {
                    metrics.record(census)
                } else {
                    metrics.recordAbsence()
                }
                done.succeed()
            }
        }
    }
}

extension GatewayMetrics {
    private static let statuses: [(ProcessStatus, String)] = [
        (.queued, "queued"), (.running, "running"), (.exited, "exited"), (.failed, "failed"),
        (.killed, "killed"), (.timedOut, "timed_out"),
    ]

    func record(_ census: CensusReply) {
        gauge("procgate_supervisor_up").record(1)
        for (status, name) in Self.statuses {
            gauge("procgate_processes", [("status", name)])
                .record(Double(census.processes[UInt32(status.rawValue)] ?? 0))
        }
        gauge("procgate_queue_length")
            .record(Double(census.processes[UInt32(ProcessStatus.queued.rawValue)] ?? 0))
        gauge("procgate_retained_bytes").record(Double(census.outputBytes))
        registry.recordSummary(
            "procgate_spawn_seconds", count: Double(census.spawned),
            sum: Double(census.spawnUs) / 1e6)
    }

    func recordAbsence() {
        gauge("procgate_supervisor_up").record(0)
    }

    private func gauge(_ label: String, _ dimensions: [(String, String)] = []) -> Gauge {
        Gauge(label: label, dimensions: dimensions, factory: registry)
    }
}
