// Where system calls that may wait are made, so that no task's thread stands still.

import NIOPosix

enum Blocking {
    /// One for each thing that waits at once: input, output, signals, and one to spare.
    private static let threads: NIOThreadPool = {
        let pool = NIOThreadPool(numberOfThreads: 4)
        pool.start()
        return pool
    }()

    static func run<Result: Sendable>(
        _ body: @escaping @Sendable () -> Result
    ) async -> Result {
        guard let result = try? await threads.runIfActive(body) else {
            fatalError("the threads for blocking calls are never shut down")
        }
        return result
    }
}
