// When a helper process that has ended is started again. Pure.

import LinuxIO

/// Pauses that double while one process after the other ends without having been of use.
struct Backoff {
    let first: Duration
    let largest: Duration
    private var pause: Duration = .zero

    init(first: Duration, largest: Duration) {
        self.first = first
        self.largest = largest
    }

    /// The process has done something: the next one that ends is started again at once.
    mutating func succeeded() {
        pause = .zero
    }

    /// The process has ended. Returns how long to wait before the next one.
    mutating func failed() -> Duration {
        defer { pause = min(max(first, pause * 2), largest) }
        return pause
    }
}
