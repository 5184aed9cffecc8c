// When a pipe is read: short reads that follow each other closely are spaced out, so
// that many small writes become one record. Pure.

import LinuxIO

struct ReadPacing {
    /// Between a short read and the next. 100 to 200 µs halve the CPU of a chatty
    /// stream, and are less than anybody sees.
    static let interval: Duration = .microseconds(150)
    /// A read of this many bytes shows a writer that is ahead of us: never wait for it.
    static let fullReadBytes = 65_536

    private var lastShortRead: Instant?

    /// When to read a pipe that became readable at `now`; `nil` is at once.
    func delay(now: Instant) -> Instant? {
        guard let lastShortRead else { return nil }
        let earliest = lastShortRead + Self.interval
        return now < earliest ? earliest : nil
    }

    mutating func didRead(_ count: Int, at now: Instant) {
        lastShortRead = count < Self.fullReadBytes ? now : nil
    }
}
