// Counts what a peer may send for nothing. Decides only; acting on it is the session's.

/// Token buckets for one connection. Time is given from outside, in nanoseconds of any clock.
struct FloodGuard {
    private struct Bucket {
        var tokens: Int
        var refilled: UInt64
        let limit: FloodLimit

        init(_ limit: FloodLimit, now: UInt64) {
            self.limit = limit
            tokens = limit.burst
            refilled = now
        }

        /// Takes one token; false where none is left.
        mutating func take(now: UInt64) -> Bool {
            refill(now: now)
            guard tokens > 0 else { return false }
            tokens -= 1
            return true
        }

        mutating func fill() {
            tokens = limit.burst
        }

        private mutating func refill(now: UInt64) {
            let elapsed = now > refilled ? now - refilled : 0
            let gained = elapsed / 1_000_000 * UInt64(limit.perSecond) / 1000
            guard gained < UInt64(max(limit.burst - tokens, 0)) else {
                tokens = max(tokens, limit.burst)
                refilled = now
                return
            }
            guard gained > 0 else { return }
            tokens += Int(gained)
            refilled += gained * 1_000_000_000 / UInt64(limit.perSecond)
        }
    }

    private var pings: Bucket
    private var settings: Bucket
    private var windowUpdates: Bucket
    private var emptyData: Bucket
    private var priorities: Bucket
    private var unknownFrames: Bucket
    private var resets: Bucket
    private var provokedResets: Bucket
    private var sentBytesCredit = 0

    init(_ limits: HTTP2Limits, now: UInt64) {
        pings = Bucket(limits.pings, now: now)
        settings = Bucket(limits.settings, now: now)
        windowUpdates = Bucket(limits.windowUpdates, now: now)
        emptyData = Bucket(limits.emptyData, now: now)
        priorities = Bucket(limits.priorities, now: now)
        unknownFrames = Bucket(limits.unknownFrames, now: now)
        resets = Bucket(limits.resets, now: now)
        provokedResets = Bucket(limits.provokedResets, now: now)
    }

    /// Notes one frame; the flood it makes, if it is one too many.
    mutating func note(_ kind: HTTP2Flood, now: UInt64) -> HTTP2Flood? {
        let allowed =
            switch kind {
            case .pings: pings.take(now: now)
            case .settings: settings.take(now: now)
            case .windowUpdates: takeSentBytes() || windowUpdates.take(now: now)
            case .emptyData: emptyData.take(now: now)
            case .priorities: priorities.take(now: now)
            case .unknownFrames: unknownFrames.take(now: now)
            case .resets: resets.take(now: now)
            case .provokedResets: provokedResets.take(now: now)
            case .acknowledgements: false
            }
        return allowed ? nil : kind
    }

    /// HEADERS, or DATA of that many bytes, that this side sent: what a peer may answer with
    /// WINDOW_UPDATEs, and with the PINGs of its bandwidth estimation.
    mutating func noteSent(bytes: Int) {
        pings.fill()
        sentBytesCredit = min(
            sentBytesCredit + bytes + Self.updatesOfAFrame * Self.bytesOfAnUpdate,
            64 * 1024 * 1024)
    }

    private static let bytesOfAnUpdate = 512
    /// One for the stream and one for the connection.
    private static let updatesOfAFrame = 2

    private mutating func takeSentBytes() -> Bool {
        guard sentBytesCredit >= Self.bytesOfAnUpdate else { return false }
        sentBytesCredit -= Self.bytesOfAnUpdate
        return true
    }
}
