// Sees to it that there is a supervisor: when a worker's link is lost, it makes another,
// on a thread where it may block.

import Logging
import NIOCore
import NIOPosix
import SupervisorLink
import Synchronization

/// Shared by all workers. A supervisor that dies at once each time is started again with
/// growing pauses.
final class SupervisorKeeper: Sendable {
    private let launcher: SupervisorLauncher
    private let logger: Logger
    private let health: HealthService
    private let restartCount = Atomic<Int>(0)

    private static let firstPause = TimeAmount.milliseconds(50)
    private static let longestPause = TimeAmount.seconds(5)

    init(launcher: SupervisorLauncher, health: HealthService, logger: Logger) {
        self.launcher = launcher
        self.health = health
        self.logger = logger
    }

    /// Supervisors that were started because one had died.
    var restarts: Int { restartCount.load(ordering: .relaxed) }

    /// Connects `worker` again, however often that takes, until it is closed.
    func reconnect(_ worker: Worker) {
        health.supervisorLost(by: worker.eventLoop)
        reconnect(worker, after: Self.firstPause)
    }

    private func reconnect(_ worker: Worker, after pause: TimeAmount) {
        worker.eventLoop.scheduleTask(in: pause) { [self] in
            guard !worker.isClosed else { return }
            NIOThreadPool.singleton.submit { state in
                guard case .active = state else { return }
                self.attempt(worker, after: pause)
            }
        }
    }

    private func attempt(_ worker: Worker, after pause: TimeAmount) {
        do throws(SupervisorError) {
            let socket = try launcher.connect()
            if socket.isFirst { restartCount.wrappingAdd(1, ordering: .relaxed) }
            worker.connect(socket).whenComplete { [self] result in
                switch result {
                case .success:
                    health.supervisorFound(by: worker.eventLoop)
                    logger.notice("connected to a supervisor again")
                case .failure(let error):
                    retry(worker, after: pause, error)
                }
            }
        } catch {
            retry(worker, after: pause, error)
        }
    }

    private func retry(_ worker: Worker, after pause: TimeAmount, _ error: any Error) {
        logger.error("no supervisor", metadata: ["error": "\(error)"])
        reconnect(worker, after: min(pause * 2, Self.longestPause))
    }
}
