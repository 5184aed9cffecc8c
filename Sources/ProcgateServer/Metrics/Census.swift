// The supervisor's figures, asked for when the metrics are read.

import NIOCore
import ProcgateInternal
import ProcgateV1
import SupervisorLink

/// Asks one worker's supervisor how things stand. However many ask and however long it does not
/// answer, there is one command on its way.
///
/// `@unchecked Sendable`, because its state is confined to the worker's event loop.
final class CensusSource: @unchecked Sendable {
    private struct Waiter {
        let promise: EventLoopPromise<CensusReply?>
        let timeout: Scheduled<Void>
    }

    private let worker: Worker
    private var waiting: [Int: Waiter] = [:]
    private var nextWaiter = 0
    private var isAsked = false

    /// The gateway's own figures do not wait longer for the supervisor's.
    private static let timeLimit = TimeAmount.seconds(1)

    init(_ worker: Worker) {
        self.worker = worker
    }

    /// Supervisors that were started because one had died.
    var restarts: Int { worker.keeper.restarts }

    /// The figures; nil where there is no supervisor, or it does not answer in time.
    func census() -> EventLoopFuture<CensusReply?> {
        let promise = worker.eventLoop.makePromise(of: CensusReply?.self)
        worker.eventLoop.execute { self.answer(promise) }
        return promise.futureResult
    }

    private func answer(_ promise: EventLoopPromise<CensusReply?>) {
        guard let link = worker.link, !link.isLost else { return promise.succeed(nil) }
        let number = nextWaiter
        nextWaiter += 1
        let timeout = worker.eventLoop.scheduleTask(in: Self.timeLimit) { [self] in
            if let waiter = waiting.removeValue(forKey: number) { waiter.promise.succeed(nil) }
        }
        waiting[number] = Waiter(promise: promise, timeout: timeout)
        guard !isAsked else { return }
        isAsked = true
        link.send(.census(Census())) { [self] result in
            isAsked = false
            guard case .success(.census(let census)) = result else { return finish(nil) }
            finish(census)
        }
    }

    private func finish(_ census: CensusReply?) {
        let waiters = waiting.values
        waiting = [:]
        for waiter in waiters {
            waiter.timeout.cancel()
            waiter.promise.succeed(census)
        }
    }
}

extension CensusReply {
    private static let statuses: [(ProcessStatus, String)] = [
        (.queued, "queued"), (.running, "running"), (.exited, "exited"), (.failed, "failed"),
        (.killed, "killed"), (.timedOut, "timed_out"),
    ]

    /// All but LOST: what a dead supervisor had is not counted by the next one.
    private static let reasons: [(TerminationReason, String)] = [
        (.exited, "exited"), (.signalled, "signalled"), (.stopped, "stopped"),
        (.timeout, "timeout"), (.callerGone, "caller_gone"), (.outOfMemory, "out_of_memory"),
        (.shutdown, "shutdown"), (.startFailed, "start_failed"),
        (.queueTimeout, "queue_timeout"),
    ]

    var samples: [MetricSample] {
        var samples = Self.statuses.map { status, name in
            MetricSample("procgate_processes", count(status), labels: [("status", name)])
        }
        samples += Self.reasons.map { reason, name in
            MetricSample(
                "procgate_processes_ended_total",
                Double(ended[UInt32(bitPattern: reason.rawValue)] ?? 0), labels: [("reason", name)])
        }
        samples += [
            MetricSample("procgate_queue_length", count(.queued)),
            MetricSample("procgate_retained_bytes", Double(outputBytes)),
            MetricSample("procgate_spawn_seconds", Double(spawnUs) / 1e6, suffix: "_sum"),
            MetricSample("procgate_spawn_seconds", Double(spawned), suffix: "_count"),
        ]
        return samples
    }

    private func count(_ status: ProcessStatus) -> Double {
        Double(processes[UInt32(bitPattern: status.rawValue)] ?? 0)
    }
}
