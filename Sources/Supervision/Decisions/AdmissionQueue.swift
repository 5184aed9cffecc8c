// Which process may run now, which ones wait, and which are turned away. Pure.

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
    private(set) var runningCount = 0
    private var line: Deque<UInt64> = []
    /// The processes in `line` that have not left it.
    private var waiting: Set<UInt64> = []

    init(maxRunning: Int, maxQueued: Int) {
        self.maxRunning = max(1, maxRunning)
        self.maxQueued = max(0, maxQueued)
    }

    var queuedCount: Int { waiting.count }

    /// Whether a process that is admitted now starts at once.
    var hasPlace: Bool { runningCount < maxRunning && waiting.isEmpty }

    /// A process that starts takes its place at once.
    mutating func admit(_ serial: UInt64) -> Decision {
        if hasPlace {
            runningCount += 1
            return .start
        }
        guard waiting.count < maxQueued else { return .refuse }
        line.append(serial)
        waiting.insert(serial)
        return .wait
    }

    /// A waiting process gave up.
    mutating func leave(_ serial: UInt64) {
        waiting.remove(serial)
        // A process that left stays in the line until its turn, but not without limit.
        if line.count > 2 * waiting.count + 64 { line.removeAll { !waiting.contains($0) } }
    }

    /// A running process has ended: its place is free.
    mutating func finish() {
        assert(runningCount > 0, "more ends than starts")
        runningCount = max(0, runningCount - 1)
    }

    /// The process that starts next, and has a place from now on; `nil` where none can.
    mutating func next() -> UInt64? {
        guard runningCount < maxRunning else { return nil }
        while let serial = line.popFirst() {
            guard waiting.remove(serial) != nil else { continue }
            runningCount += 1
            return serial
        }
        return nil
    }
}
