// Who may run now, who waits, and who is turned away. Pure.

import DequeModule

/// The places among the running, and the line before them. Processes are known by
/// their serial numbers.
struct AdmissionQueue {
    enum Decision: Equatable {
        case start
        case wait
        /// The queue is full.
        case refuse
    }

    let maxRunning: Int
    let maxQueued: Int
    /// What all who wait may hold together: their input, arguments and labels.
    let maxQueuedBytes: Int
    private(set) var runningCount = 0
    private(set) var queuedBytes = 0
    private var line: Deque<UInt64> = []
    /// Those in `line` that have not left it, with their bytes.
    private var waiting: [UInt64: Int] = [:]

    init(maxRunning: Int, maxQueued: Int, maxQueuedBytes: Int = .max) {
        self.maxRunning = max(1, maxRunning)
        self.maxQueued = max(0, maxQueued)
        self.maxQueuedBytes = maxQueuedBytes
    }

    var queuedCount: Int { waiting.count }

    /// A process that starts takes its place at once. `bytes`: what it holds while it waits.
    mutating func admit(_ serial: UInt64, bytes: Int = 0) -> Decision {
        if runningCount < maxRunning, waiting.isEmpty {
            runningCount += 1
            return .start
        }
        guard waiting.count < maxQueued, bytes <= maxQueuedBytes - queuedBytes else {
            return .refuse
        }
        line.append(serial)
        waiting[serial] = bytes
        queuedBytes += bytes
        return .wait
    }

    /// A waiting process gave up.
    mutating func leave(_ serial: UInt64) {
        queuedBytes -= waiting.removeValue(forKey: serial) ?? 0
        // Who left stays in the line until it is their turn, but not without limit.
        if line.count > 2 * waiting.count + 64 { line.removeAll { waiting[$0] == nil } }
    }

    /// A running process has ended: its place is free.
    mutating func finish() {
        precondition(runningCount > 0, "more ends than starts")
        runningCount -= 1
    }

    /// Who starts next, and has a place from now on; `nil` where nobody can.
    mutating func next() -> UInt64? {
        guard runningCount < maxRunning else { return nil }
        while let serial = line.popFirst() {
            guard let bytes = waiting.removeValue(forKey: serial) else { continue }
            queuedBytes -= bytes
            runningCount += 1
            return serial
        }
        return nil
    }
}
