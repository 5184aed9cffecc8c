// Deadlines, the earliest first. Pure: it knows no clock and calls nobody; the loop asks
// what is due. Inlinable, so that it is compiled for its value where it is used.

/// Names a timer until it has fired or was cancelled.
public struct TimerID: Hashable, Sendable {
    @usableFromInline let number: UInt64

    @inlinable init(number: UInt64) {
        self.number = number
    }
}

/// A binary heap of deadlines with a value each. A cancelled timer leaves the heap when
/// it comes to the top, or when cancelled ones are the larger half.
public struct TimerHeap<Value> {
    @usableFromInline struct Entry {
        @usableFromInline let deadline: Instant
        @usableFromInline let number: UInt64
        @usableFromInline let value: Value

        @inlinable init(deadline: Instant, number: UInt64, value: Value) {
            self.deadline = deadline
            self.number = number
            self.value = value
        }
    }

    @usableFromInline var heap: [Entry] = []
    @usableFromInline var cancelled: Set<UInt64> = []
    @usableFromInline var nextNumber: UInt64 = 0

    /// Below this, cancelled timers are not worth the sweep.
    @inlinable static var sweepCount: Int { 64 }

    @inlinable public init() {}

    /// Timers that will fire.
    @inlinable public var count: Int { heap.count - cancelled.count }

    @inlinable public mutating func add(_ value: Value, at deadline: Instant) -> TimerID {
        let number = nextNumber
        nextNumber += 1
        heap.append(Entry(deadline: deadline, number: number, value: value))
        siftUp(heap.count - 1)
        return TimerID(number: number)
    }

    /// To be called once at most, and not after the timer has fired.
    @inlinable public mutating func cancel(_ id: TimerID) {
        cancelled.insert(id.number)
        if cancelled.count > Self.sweepCount, cancelled.count > heap.count / 2 {
            heap.removeAll { cancelled.contains($0.number) }
            cancelled.removeAll(keepingCapacity: true)
            for index in stride(from: heap.count / 2 - 1, through: 0, by: -1) { siftDown(index) }
        }
    }

    /// The earliest deadline.
    @inlinable public mutating func nextDeadline() -> Instant? {
        dropCancelled()
        return heap.first?.deadline
    }

    /// The earliest timer where it is due at `now`; it has fired then.
    @inlinable public mutating func popDue(at now: Instant) -> (id: TimerID, value: Value)? {
        dropCancelled()
        guard let first = heap.first, first.deadline <= now else { return nil }
        removeFirst()
        return (TimerID(number: first.number), first.value)
    }

    @inlinable mutating func dropCancelled() {
        while let first = heap.first, !cancelled.isEmpty,
            cancelled.remove(first.number) != nil
        {
            removeFirst()
        }
    }

    @inlinable mutating func removeFirst() {
        heap.swapAt(0, heap.count - 1)
        heap.removeLast()
        if !heap.isEmpty { siftDown(0) }
    }

    @inlinable mutating func siftUp(_ start: Int) {
        var index = start
        while index > 0 {
            let parent = (index - 1) / 2
            guard heap[index].deadline < heap[parent].deadline else { return }
            heap.swapAt(index, parent)
            index = parent
        }
    }

    @inlinable mutating func siftDown(_ start: Int) {
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
