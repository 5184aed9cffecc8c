// Deadlines, the earliest first. Pure: it knows no clock and calls nobody; the loop asks
// what is due.

/// Names a timer until it has fired or was cancelled.
public struct TimerID: Hashable, Sendable {
    fileprivate let number: UInt64
}

/// A binary heap of deadlines with a value each. A cancelled timer leaves the heap when
/// it comes to the top, or when cancelled ones are the larger half.
public struct TimerHeap<Value> {
    private struct Entry {
        let deadline: Instant
        let number: UInt64
        let value: Value
    }

    private var heap: [Entry] = []
    private var cancelled: Set<UInt64> = []
    private var nextNumber: UInt64 = 0

    /// Below this, cancelled timers are not worth the sweep.
    private static var sweepCount: Int { 64 }

    public init() {}

    /// Timers that will fire.
    public var count: Int { heap.count - cancelled.count }

    public mutating func add(_ value: Value, at deadline: Instant) -> TimerID {
        let number = nextNumber
        nextNumber += 1
        heap.append(Entry(deadline: deadline, number: number, value: value))
        siftUp(heap.count - 1)
        return TimerID(number: number)
    }

    /// To be called once at most, and not after the timer has fired.
    public mutating func cancel(_ id: TimerID) {
        cancelled.insert(id.number)
        if cancelled.count > Self.sweepCount, cancelled.count > heap.count / 2 {
            heap.removeAll { cancelled.contains($0.number) }
            cancelled.removeAll(keepingCapacity: true)
            for index in stride(from: heap.count / 2 - 1, through: 0, by: -1) { siftDown(index) }
        }
    }

    /// The earliest deadline.
    public mutating func nextDeadline() -> Instant? {
        dropCancelled()
        return heap.first?.deadline
    }

    /// The earliest timer where it is due at `now`; it has fired then.
    public mutating func popDue(at now: Instant) -> (id: TimerID, value: Value)? {
        dropCancelled()
        guard let first = heap.first, first.deadline <= now else { return nil }
        removeFirst()
        return (TimerID(number: first.number), first.value)
    }

    private mutating func dropCancelled() {
        while let first = heap.first, !cancelled.isEmpty,
            cancelled.remove(first.number) != nil
        {
            removeFirst()
        }
    }

    private mutating func removeFirst() {
        heap.swapAt(0, heap.count - 1)
        heap.removeLast()
        if !heap.isEmpty { siftDown(0) }
    }

    private mutating func siftUp(_ start: Int) {
        var index = start
        while index > 0 {
            let parent = (index - 1) / 2
            guard heap[index].deadline < heap[parent].deadline else { return }
            heap.swapAt(index, parent)
            index = parent
        }
    }

    private mutating func siftDown(_ start: Int) {
        var index = start
        while true {
            var least = index
            for child in (2 * index + 1)...(2 * index + 2)
            where child < heap.count && heap[child].deadline < heap[least].deadline {
                least = child
            }
            if least == index { return }
            heap.swapAt(index, least)
            index = least
        }
    }
}
