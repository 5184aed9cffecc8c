// When a failed call is tried again: values that decide. Acting on it, clocks and calls are
// elsewhere.

/// Exponential backoff with full jitter: each delay is random between nothing and a bound that
/// doubles from attempt to attempt.
struct Backoff: Sendable {
    /// The bound after the first failure, and the largest. A restart takes some 100 ms; beyond a
    /// second or so a longer wait saves nobody anything.
    static let first = Duration.milliseconds(25)
    static let largest = Duration.milliseconds(1600)

    /// For a call that found no connection and so was never sent. The channel alone decides when
    /// to connect again; asking whether it has costs nobody anything.
    static let unsent = Duration.milliseconds(100)

    private var bound = Self.first

    mutating func next(using random: inout some RandomNumberGenerator) -> Duration {
        defer { bound = min(bound * 2, Self.largest) }
        return bound * Double.random(in: 0...1, using: &random)
    }

    mutating func reset() {
        bound = Self.first
    }
}

/// What all calls of one client together may repeat: so many at once, then so many a second.
/// Nothing is refused for it; what exceeds it waits its turn, so that a gateway that is down or
/// coming up is not stormed.
struct RetryBudget: Sendable {
    static let burst = 200.0
    static let perSecond = 200.0
    /// As from one that waits for its turn: two minutes' worth.
    static let deepest = -120 * perSecond

    private var tokens = Self.burst
    private var refilledAt: Duration = .zero

    /// Takes one repeat's place; returns how long to wait until it is due. `now` never goes back.
    mutating func take(now: Duration) -> Duration {
        let passed = max(.zero, now - refilledAt) / .seconds(1)
        refilledAt = max(now, refilledAt)
        tokens = min(Self.burst, tokens + passed * Self.perSecond)
        tokens = max(Self.deepest, tokens - 1)
        return tokens >= 0 ? .zero : .seconds(-tokens / Self.perSecond)
    }
}

/// One call's way through failures: how long it has been without success, and what comes next.
struct RetryState: Sendable {
    enum Decision: Equatable {
        case repeatAfter(Duration)
        case giveUp
    }

    /// From the first failure without a success since.
    private let patience: Duration
    private var backoff = Backoff()
    private var failingSince: Duration?

    init(patience: Duration) {
        self.patience = patience
    }

    /// After anything that worked: an answer, or an event of a stream.
    mutating func succeeded() {
        guard failingSince != nil else { return }
        failingSince = nil
        backoff.reset()
    }

    /// - Parameters:
    ///   - wasSent: Whether the gateway may have seen anything of the call.
    ///   - pushback: What the gateway asked for: a delay, or, where negative, no repeat at all.
    mutating func failed(
        now: Duration, wasSent: Bool = true, pushback: Duration? = nil,
        using random: inout some RandomNumberGenerator
    ) -> Decision {
        let since = failingSince ?? now
        failingSince = since
        if let pushback, pushback < .zero { return .giveUp }
        let delay =
            pushback
            ?? (wasSent
                ? backoff.next(using: &random)
                : Backoff.unsent * Double.random(in: 0...1, using: &random))
        return now + delay - since > patience ? .giveUp : .repeatAfter(delay)
    }
}
