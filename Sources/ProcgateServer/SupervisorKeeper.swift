// Sees to it that there is a supervisor: when a worker's link is lost, it makes another,
// on a thread where it may block.

import Logging
import NIOCore
import NIOPosix
import ProcgateInternal
import SupervisorLink
import Synchronization

/// Shared by all workers. A supervisor that dies at once each time is started again with
/// growing pauses.
final class SupervisorKeeper: Sendable {
    private let launcher: SupervisorLauncher
    private let logger: Logger
    private let health: HealthService
    private let restartCount = Atomic<Int>(0)
    private let attempts = Mutex(Attempts())

    /// Of those that are under way, each of which may start a supervisor.
    private struct Attempts {
        var count = 0
        var isClosed = false
        var closing: [CheckedContinuation<Void, Never>] = []
    }

    private static let firstPause = TimeAmount.milliseconds(50)
    private static let longestPause = TimeAmount.seconds(5)

    init(launcher: SupervisorLauncher, health: HealthService, logger: Logger) {
        self.launcher = launcher
        self.health = health
        self.logger = logger
    }

    /// Supervisors that were started because one had died.
    var restarts: Int { restartCount.load(ordering: .relaxed) }

    /// Starts no supervisor from now on. When it returns, workers have links to whatever was
    /// started before.
    func close() async {
        await withCheckedContinuation { continuation in
            let isIdle = attempts.withLock { attempts in
                attempts.isClosed = true
                if attempts.count > 0 { attempts.closing.append(continuation) }
                return attempts.count == 0
            }
            if isIdle { continuation.resume() }
        }
    }

    private func begin() -> Bool {
        attempts.withLock { attempts in
            if !attempts.isClosed { attempts.count += 1 }
            return !attempts.isClosed
        }
    }

    private func finish() {
        let closing = attempts.withLock { attempts in
            attempts.count -= 1
            guard attempts.count == 0 else { return [CheckedContinuation<Void, Never>]() }
            defer { attempts.closing.removeAll() }
            return attempts.closing
        }
        for continuation in closing { continuation.resume() }
    }

    /// The supervisor of that loop's link says nothing, or speaks again.
    func supervisorIsSilent(on loop: any EventLoop) { health.supervisorLost(by: loop) }
    func supervisorAnswers(on loop: any EventLoop) { health.supervisorFound(by: loop) }

    var stateDirectory: String { launcher.stateDirectory }

    /// What becomes of a start has changed.
    func admissionChanged(on loop: any EventLoop, _ admission: Admission?) {
        guard let admission else { return }
        health.placementChanged(!admission.cordoned && admission.hasPlace)
    }

    /// Connects `worker` again, however often that takes, until it is closed.
    func reconnect(_ worker: Worker) {
        health.supervisorLost(by: worker.eventLoop)
        reconnect(worker, after: Self.firstPause)
    }

    private func reconnect(_ worker: Worker, after pause: TimeAmount) {
        worker.eventLoop.scheduleTask(in: pause) { [self] in
            guard !worker.isClosed, begin() else { return }
            NIOThreadPool.singleton.submit { state in
                guard case .active = state else { return self.finish() }
                self.attempt(worker, after: pause)
            }
        }
    }

    private func attempt(_ worker: Worker, after pause: TimeAmount) {
        do throws(SupervisorError) {
            let socket = try launcher.connect(lane: worker.lane)
            if socket.isFirst { restartCount.wrappingAdd(1, ordering: .relaxed) }
            worker.connect(socket).whenComplete { [self] result in
                switch result {
                case .success:
                    health.supervisorFound(by: worker.eventLoop)
                    logger.notice("connected to a supervisor again")
                case .failure(let error):
                    retry(worker, after: pause, error)
                }
                finish()
            }
        } catch {
            retry(worker, after: pause, error)
            finish()
        }
    }

    private func retry(_ worker: Worker, after pause: TimeAmount, _ error: any Error) {
        logger.error("no supervisor", metadata: ["error": "\(error)"])
        reconnect(worker, after: min(pause * 2, Self.longestPause))
    }
}
