// How many questions with large answers a worker asks the supervisor at once. Decides only.

import DequeModule

/// The supervisor gives up a link on which more than 64 MiB of replies wait. A page of a listing
/// has up to 3 MiB and one process more; a process with its arguments and labels up to 2.3 MiB.
///
/// `@unchecked Sendable`, because it is confined to its worker's event loop.
final class ReplyGate: @unchecked Sendable {
    /// What a reply may take, in processes of the largest size.
    enum Weight: Int {
        case process = 1
        case page = 4
    }

    private let capacity: Int
    private var taken = 0
    private var waiting: Deque<(weight: Weight, continuation: CheckedContinuation<Void, Never>)> =
        []

    /// - Parameter capacity: in processes.
    init(capacity: Int = 24) {
        self.capacity = capacity
    }

    /// False: it is not the caller's turn yet, see `enter`. To be left.
    func enterNow(_ weight: Weight) -> Bool {
        guard waiting.isEmpty, taken + weight.rawValue <= capacity else { return false }
        taken += weight.rawValue
        return true
    }

    /// Waits for the caller's turn. To be left.
    nonisolated(nonsending) func enter(_ weight: Weight) async {
        guard !enterNow(weight) else { return }
        await withCheckedContinuation { waiting.append((weight: weight, continuation: $0)) }
    }

    func leave(_ weight: Weight) {
        taken -= weight.rawValue
        while let next = waiting.first, taken + next.weight.rawValue <= capacity {
            waiting.removeFirst()
            taken += next.weight.rawValue
            next.continuation.resume()
        }
    }
}
