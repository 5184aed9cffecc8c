// Where system calls that may wait are made, so that no task's thread stands still.

import NIOPosix

enum Blocking {
    /// One for each thing that waits at once: input, output, signals, and one to spare.
    private static let threads: NIOThreadPool = {
        let pool = NIOThreadPool(numberOfThreads: 4)
        pool.start()
        return pool
    }()

    /// Whatever becomes of the task: a call that has begun cannot be taken back.
    static func run<Result: Sendable>(
        _ body: @escaping @Sendable () -> Result
    ) async -> Result {
        await withCheckedContinuation { continuation in
            threads.submit { _ in continuation.resume(returning: body()) }
        }
    }
}
