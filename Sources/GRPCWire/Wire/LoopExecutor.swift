// Runs Swift tasks on one event loop, so that a call's handler never leaves its connection's
// thread. Knows no call.

import NIOCore

/// A task executor whose thread is an event loop's. Jobs enqueued in one turn of the loop run
/// together at its end, in order.
///
/// `@unchecked Sendable`: `jobs` is touched on the loop's thread only.
final class LoopExecutor: TaskExecutor, @unchecked Sendable {
    let eventLoop: any EventLoop
    private var jobs: [UnownedJob] = []
    private var spare: [UnownedJob] = []
    private var isScheduled = false

    init(_ eventLoop: any EventLoop) {
        self.eventLoop = eventLoop
    }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        if eventLoop.inEventLoop {
            add(job)
        } else {
            eventLoop.execute { self.add(job) }
        }
    }

    private func add(_ job: UnownedJob) {
        jobs.append(job)
        guard !isScheduled else { return }
        isScheduled = true
        eventLoop.assumeIsolatedUnsafeUnchecked().execute { self.run() }
    }

    private func run() {
        isScheduled = false
        var batch = spare
        spare = []
        swap(&batch, &jobs)
        let executor = asUnownedTaskExecutor()
        for job in batch { job.runSynchronously(on: executor) }
        batch.removeAll(keepingCapacity: true)
        spare = batch
    }

    /// Starts `operation` at once, on the loop's thread; it comes back there after suspensions.
    func start(_ operation: @escaping @Sendable () async -> Void) -> Task<Void, Never> {
        if #available(macOS 26, *) {
            Task.immediate(executorPreference: self, operation: operation)
        } else {
            Task(executorPreference: self, operation: operation)
        }
    }
}
