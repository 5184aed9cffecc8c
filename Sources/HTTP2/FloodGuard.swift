// Counts what a peer may send for nothing. Decides only; acting on it is the session's.

/// Token buckets for one connection. Time is given from outside, in nanoseconds of any clock.
struct FloodGuard {
    private struct Bucket {
        var tokens: Int
        var refilled: UInt64
        let limit: FloodLimit

        init(_ limit: FloodLimit) {
            self.limit = limit
            tokens = limit.burst
            refilled = 0
        }

        /// Takes one token; false where none is left.
        mutating func take(now: UInt64) -> Bool {
            if tokens > 0 {
                tokens -= 1
                return true
            }
            let elapsed = now > refilled ? now - refilled : 0
            let gained = min(
                UInt64(limit.burst), elapsed / 1_000_000 * UInt64(limit.perSecond) / 1000)
            guard gained > 0 else { return false }
            refilled = now
            tokens = Int(gained) - 1
            return true
        }
    }

    private var pings: Bucket
    private var settings: Bucket
    private var windowUpdates: Bucket
    private var emptyData: Bucket
    private var priorities: Bucket
    private var resets: Bucket
    private var provokedResets: Bucket
    private var sentBytesCredit = 0

    init(_ limits: HTTP2Limits, now: UInt64) {
        pings = Bucket(limits.pings)
        settings = Bucket(limits.settings)
        windowUpdates = Bucket(limits.windowUpdates)
        emptyData = Bucket(limits.emptyData)
        priorities = Bucket(limits.priorities)
        resets = Bucket(limits.resets)
        provokedResets = Bucket(limits.provokedResets)
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
            case .resets: resets.take(now: now)
            case .provokedResets: provokedResets.take(now: now)
            case .acknowledgements: false
            }
        return allowed ? nil : kind
    }

    /// DATA that this side sent: what a peer may answer with WINDOW_UPDATEs.
    mutating func noteSent(bytes: Int) {
        sentBytesCredit = min(sentBytesCredit + bytes, 64 * 1024 * 1024)
    }

    private mutating func takeSentBytes() -> Bool {
        guard sentBytesCredit >= 512 else { return false }
        sentBytesCredit -= 512
        return true
    }
}
