// Writes lines to a descriptor that may block: a pipe that nobody reads, a terminal that is stopped
// by ^S, a file on a full disk. A thread of its own waits there, so that nobody else does. The
// descriptor stays as it is: O_NONBLOCK would hold for every process that shares it.

import Glibc

/// Whole lines, in order, to one descriptor. Adding a line never waits; a line that finds no room
/// is dropped and counted, and a notice says so where the lines are missing.
///
/// `@unchecked Sendable`: what `state` points to is guarded by `mutex`; everything else is constant,
/// or used by the writing thread alone.
final class LineWriter: @unchecked Sendable {
    private struct State {
        var queue: LineQueue
        var droppedInAll: UInt64 = 0
        /// The thread waits for a line, and has to be woken.
        var isIdle = false
        /// No line comes any more: the thread ends when the queue is empty.
        var isEnding = false
        var hasEnded = false
    }

    private let descriptor: Int32
    private let notice: @Sendable (_ dropped: Int) -> String
    /// In memory of its own: it changes while a thread waits for a condition.
    private let state = UnsafeMutablePointer<State>.allocate(capacity: 1)
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    /// A line was added, or the end has come.
    private let work = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private let ended = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    // Of the writing thread.
    private var batch: [UInt8] = []
    /// The rest of a line, of which the first part was written before the descriptor failed.
    private var torn: [UInt8] = []
    /// When a descriptor that has failed is tried again.
    private var retryAt = timespec()

    /// Some thousand lines.
    private static let queueBytes = 1 << 20
    /// A pipe takes so many without mixing them with what others write.
    private static let pieceBytes = Int(PIPE_BUF)
    /// Between two batches: lines that come meanwhile share a wake-up and a write.
    private static let pauseNanoseconds = 5_000_000
    private static let retryNanoseconds = 1_000_000_000

    /// - Parameter notice: the line that says how many lines are missing.
    init(descriptor: Int32, notice: @escaping @Sendable (_ dropped: Int) -> String) {
        self.descriptor = descriptor
        self.notice = notice
        state.initialize(to: State(queue: LineQueue(limitBytes: Self.queueBytes)))
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(work, &attributes)
        pthread_cond_init(ended, &attributes)
        pthread_condattr_destroy(&attributes)
        startThread()
    }

    deinit {
        pthread_mutex_destroy(mutex)
        pthread_cond_destroy(work)
        pthread_cond_destroy(ended)
        state.deinitialize(count: 1)
        state.deallocate()
        mutex.deallocate()
        work.deallocate()
        ended.deallocate()
    }

    /// Adds a line without its newline.
    func add(_ line: String) {
        locked {
            guard state.pointee.queue.add(line) else {
                state.pointee.droppedInAll += 1
                return
            }
            guard state.pointee.isIdle else { return }
            state.pointee.isIdle = false
            pthread_cond_signal(work)
        }
    }

    /// Lines dropped so far.
    var dropped: UInt64 { locked { state.pointee.droppedInAll } }

    /// The last line was added: the thread ends once everything is written.
    func end() {
        locked {
            state.pointee.isEnding = true
            pthread_cond_signal(work)
        }
    }

    /// Waits until everything is written, at most so long.
    func end(within nanoseconds: Int) {
        end()
        var deadline = Self.time(after: nanoseconds)
        locked {
            while !state.pointee.hasEnded,
                pthread_cond_timedwait(ended, mutex, &deadline) != ETIMEDOUT
            {}
        }
    }

    private func locked<Result>(_ body: () -> Result) -> Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return body()
    }

    // MARK: The writing thread

    private func startThread() {
        var thread = pthread_t()
        let own = Unmanaged.passRetained(self)
        let status = pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                Unmanaged<LineWriter>.fromOpaque(argument).takeRetainedValue().run()
                return nil
            }, own.toOpaque())
        if status == 0 {
            pthread_detach(thread)
        } else {
            // Without a thread nothing is written: what the queue has no room for is dropped.
            own.release()
            state.pointee.hasEnded = true
        }
    }

    private func run() {
        blockSignals()
        while let dropped = nextBatch() {
            let failure = write(dropped)
            if let failure {
                retryAt = Self.time(after: Self.retryNanoseconds)
                locked {
                    state.pointee.queue.addDropped(failure.lost + failure.unannounced)
                    state.pointee.droppedInAll += UInt64(failure.lost)
                }
            }
            pause()
        }
        locked {
            state.pointee.hasEnded = true
            pthread_cond_broadcast(ended)
        }
    }

    /// Other threads take the signals. Blocked, SIGTTOU does not stop a background process that
    /// writes to its terminal.
    private func blockSignals() {
        var all = sigset_t()
        sigfillset(&all)
        pthread_sigmask(SIG_SETMASK, &all, nil)
    }

    /// Waits for lines and moves them into `batch`.
    ///
    /// - Returns: How many lines are missing behind them; nil at the end.
    private func nextBatch() -> Int? {
        var deadline = retryAt
        return locked {
            while state.pointee.queue.bytes.isEmpty {
                if state.pointee.isEnding { return nil }
                state.pointee.isIdle = true
                if state.pointee.queue.dropped == 0 {
                    pthread_cond_wait(work, mutex)
                } else if pthread_cond_timedwait(work, mutex, &deadline) == ETIMEDOUT {
                    // The descriptor had failed: the notice finds out whether it still does.
                    break
                }
            }
            state.pointee.isIdle = false
            return state.pointee.queue.take(into: &batch)
        }
    }

    /// Lines that come meanwhile wake nobody; only the end does.
    private func pause() {
        var until = Self.time(after: Self.pauseNanoseconds)
        locked {
            while !state.pointee.isEnding, pthread_cond_timedwait(work, mutex, &until) != ETIMEDOUT
            {}
        }
    }

    /// What a failed write leaves.
    private struct Failure {
        /// Lines that were not written.
        var lost: Int
        /// Lines that had been dropped before, and of which no notice was written.
        var unannounced: Int
    }

    /// Writes `batch`, and behind it the notice that lines were dropped.
    private func write(_ dropped: Int) -> Failure? {
        let isTorn = !torn.isEmpty
        if isTorn { batch.insert(contentsOf: torn, at: 0) }
        torn = []
        let noticeStart = batch.count
        if dropped > 0 { batch.append(contentsOf: (notice(dropped) + "\n").utf8) }

        let (written, code) = writeBytes()
        guard written < batch.count else { return nil }
        var rest = batch[written...]
        let isWithinLine = written == 0 ? isTorn : batch[written - 1] != LineQueue.newline
        let hasNotice = dropped > 0 && written <= noticeStart
        // A file that has room again gets the rest of the line. The next reader of a pipe does not.
        if isWithinLine, code != EPIPE {
            let count = LinePieces.lineCount(of: rest)
            torn = Array(rest.prefix(count))
            rest = rest.dropFirst(count)
        }
        let lost = LinePieces.lines(in: rest) - (hasNotice ? 1 : 0)
        return Failure(lost: lost, unannounced: hasNotice ? dropped : 0)
    }

    /// Writes `batch` as far as the descriptor takes it.
    ///
    /// - Returns: How many bytes were written, and why not all of them.
    private func writeBytes() -> (count: Int, code: Int32) {
        var written = 0
        while written < batch.count {
            let piece = LinePieces.count(of: batch[written...], limit: Self.pieceBytes)
            let count = batch.withUnsafeBytes {
                Glibc.write(descriptor, $0.baseAddress.map { $0 + written }, piece)
            }
            if count > 0 {
                written += count
            } else if count < 0, errno == EAGAIN {
                // Another process has made it non-blocking.
                var room = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                poll(&room, 1, -1)
            } else if count == 0 || errno != EINTR {
                return (written, count == 0 ? EIO : errno)
            }
        }
        return (written, 0)
    }

    private static func time(after nanoseconds: Int) -> timespec {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        let sum = time.tv_nsec + nanoseconds
        time.tv_sec += sum / 1_000_000_000
        time.tv_nsec = sum % 1_000_000_000
        return time
    }
}
