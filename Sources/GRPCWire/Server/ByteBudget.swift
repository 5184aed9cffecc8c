// How much of one thing may be held at once, and whose turn it is when some is given back.
// Decides only; knows no call.

import DequeModule

/// A number of bytes that holders take and give back. Who does not fit waits, in order, so that
/// none is overtaken for ever. The first always fits, be it larger than the limit.
struct ByteBudget<Holder: AnyObject> {
    let limitBytes: Int
    private(set) var takenBytes = 0
    private var waiting = Deque<(holder: Holder, bytes: Int)>()

    init(limitBytes: Int) {
        self.limitBytes = limitBytes
    }

    var isAwaited: Bool { !waiting.isEmpty }

    /// Takes `bytes` for `holder`; false: it waits for its turn, see ``admitted()``.
    mutating func take(_ bytes: Int, for holder: Holder) -> Bool {
        if waiting.isEmpty, fits(bytes) {
            takenBytes += bytes
            return true
        }
        waiting.append((holder: holder, bytes: bytes))
        return false
    }

    /// Takes `bytes` now or not at all.
    mutating func takeNow(_ bytes: Int) -> Bool {
        guard waiting.isEmpty, fits(bytes) else { return false }
        takenBytes += bytes
        return true
    }

    mutating func giveBack(_ bytes: Int) {
        takenBytes -= bytes
    }

    /// `holder` does not wait any more.
    mutating func leave(_ holder: Holder) {
        waiting.removeAll { $0.holder === holder }
    }

    /// Who waited longest, where it fits by now: its bytes are taken. To be asked, until it is
    /// nil, whenever something was given back or somebody left.
    mutating func admitted() -> (holder: Holder, bytes: Int)? {
        guard let first = waiting.first, fits(first.bytes) else { return nil }
        waiting.removeFirst()
        takenBytes += first.bytes
        return first
    }

    private func fits(_ bytes: Int) -> Bool {
        takenBytes == 0 || bytes <= limitBytes - takenBytes
    }
}
