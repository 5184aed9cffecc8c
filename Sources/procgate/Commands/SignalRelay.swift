// What the signals that this program gets do to the process that it runs.

import Glibc
import ProcgateClient

/// The first goes to the process as it is, the second stops it with its tree, a third kills that
/// and leaves, whether or not the gateway answers.
struct SignalRelay {
    let process: SandboxProcess

    init(_ process: SandboxProcess) {
        self.process = process
    }

    func start(_ signals: AsyncStream<Int32>) -> Task<Void, Never> {
        let process = process
        return Task {
            var count = 0
            for await number in signals {
                count += 1
                switch count {
                case 1:
                    Task {
                        // One that has ended needs none; a gateway that is gone is told of by
                        // whoever reads the output.
                        _ = try? await process.signal(SignalSource.name(number))
                    }
                case 2: Task { _ = try? await process.stop() }
                default:
                    await Farewell.kill(process)
                    Terminal.restore()
                    exit(128 + number)
                }
            }
        }
    }
}
