// The deadlines of one event loop's calls, behind a single timer. Knows no call.

import NIOCore

/// What has a deadline. `deadlineIndex` belongs to the queue; -1: not in it.
protocol DeadlineHolder: AnyObject {
    var deadlineIndex: Int { get set }
    func deadlineReached()
}

/// A binary heap, from which a call that ended is taken out at once.
///
/// Confined to its event loop; `Sendable` because the loop's timer holds it.
final class DeadlineQueue: NIOScheduledCallbackHandler, @unchecked Sendable {
    private struct Entry {
        let deadline: NIODeadline
        let holder: any DeadlineHolder
    }

    private let eventLoop: any EventLoop
    private var heap: [Entry] = []
    private var armedFor: NIODeadline?
    private var timer: NIOScheduledCallback?

    init(_ eventLoop: any EventLoop) {
        self.eventLoop = eventLoop
    }

    func add(_ holder: any DeadlineHolder, at deadline: NIODeadline) {
        heap.append(Entry(deadline: deadline, holder: holder))
        holder.deadlineIndex = heap.count - 1
        rise(heap.count - 1)
        arm()
    }

    func remove(_ holder: any DeadlineHolder) {
        let index = holder.deadlineIndex
        guard index >= 0 else { return }
        holder.deadlineIndex = -1
        let last = heap.removeLast()
        guard index < heap.count else { return }
        heap[index] = last
        last.holder.deadlineIndex = index
        rise(index)
        sink(last.holder.deadlineIndex)
    }

    func handleScheduledCallback(eventLoop: some EventLoop) {
        armedFor = nil
        timer = nil
        let now = NIODeadline.now()
        while let first = heap.first, first.deadline <= now {
            remove(first.holder)
            first.holder.deadlineReached()
        }
        arm()
    }

    /// One timer for the earliest deadline. A later one is left to fire early and be set anew.
    private func arm() {
        guard let first = heap.first else { return }
        if let armedFor, armedFor <= first.deadline { return }
        timer?.cancel()
        timer = try? eventLoop.scheduleCallback(at: first.deadline, handler: self)
        armedFor = first.deadline
    }

    private func rise(_ start: Int) {
        var index = start
        while index > 0 {
            let parent = (index - 1) / 2
            guard heap[index].deadline < heap[parent].deadline else { return }
            exchange(index, parent)
            index = parent
        }
    }

    private func sink(_ start: Int) {
        var index = start
        while true {
            var least = index
            for child in [2 * index + 1, 2 * index + 2] where child < heap.count {
                if heap[child].deadline < heap[least].deadline { least = child }
            }
            guard least != index else { return }
            exchange(index, least)
            index = least
        }
    }

    private func exchange(_ a: Int, _ b: Int) {
        heap.swapAt(a, b)
        heap[a].holder.deadlineIndex = a
        heap[b].holder.deadlineIndex = b
    }
}
