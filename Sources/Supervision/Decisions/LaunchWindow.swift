// How many launches may be under way at once. Pure.

import LinuxIO

/// A few launches at a time use the processors best. One that takes longer than a launch can on
/// a host that answers is slow and counts no more: it may hang. The more are slow, the more are
/// begun at once, so that a line of launches that all hang holds up the ones behind it for a few
/// steps and not for one step each.
struct LaunchWindow {
    /// Launches at once while none is slow.
    static let usualCount = 8
    /// A launch takes less than a millisecond; so much is allowed for a busy host.
    static let slowTime: Duration = .milliseconds(10)

    /// When each launch began that is not slow.
    private var begun: [UInt64: Instant] = [:]
    private var slow: Set<UInt64> = []

    var hasRoom: Bool { begun.count < Self.usualCount + 2 * slow.count }

    /// When the next launch becomes slow, should it not be done by then.
    var nextSlow: Instant? { begun.values.min().map { $0 + Self.slowTime } }

    mutating func begin(_ launch: UInt64, at now: Instant) {
        begun[launch] = now
    }

    mutating func end(_ launch: UInt64) {
        begun[launch] = nil
        slow.remove(launch)
    }

    mutating func endAll() {
        begun = [:]
        slow = []
    }

    /// Time has passed.
    mutating func advance(to now: Instant) {
        for (launch, start) in begun where start + Self.slowTime <= now {
            begun[launch] = nil
            slow.insert(launch)
        }
    }
}
