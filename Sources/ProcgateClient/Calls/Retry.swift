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

    /// So often a call may fail on a gateway that is there, without a success in between. At the
    /// longest backoff that is about a minute: a connection that is cut again and again gets its
    /// calls through, and a call that brings its gateway down is not repeated for ever.
    static let mostFailures = 64

    /// A call that was under way for at least that long, and for the patience, did not fail: it
    /// was cut off, as balancers do every few minutes. Its failures are counted anew.
    static let longAttempt = Duration.seconds(10)

    /// How long the gateway may be out of reach.
    private let patience: Duration
    private var backoff = Backoff()
    private var failingSince: Duration?
    private var failures = 0
    private var connections = 0
    /// When the attempt that runs began, after the first.
    private var beganAt: Duration?

    init(patience: Duration) {
        self.patience = patience
    }

    /// After what brought the call on: an answer, or an event of a stream that is news.
    mutating func succeeded() {
        guard failingSince != nil else { return }
        failingSince = nil
        failures = 0
        backoff.reset()
    }

    /// The call is made again, now.
    mutating func begins(now: Duration) {
        beganAt = now
    }

    /// - Parameters:
    ///   - connections: How often the gateway has been reached so far, by whatever call.
    ///   - wasSent: Whether the gateway may have seen anything of the call.
    ///   - pushback: What the gateway asked for: a delay, or, where negative, no repeat at all.
    mutating func failed(
        now: Duration, connections: Int = 0, wasSent: Bool = true, pushback: Duration? = nil,
        using random: inout some RandomNumberGenerator
    ) -> Decision {
        // One that was never sent did nothing but wait for a connection.
        if wasSent, let beganAt, now - beganAt >= max(patience, Self.longAttempt) { succeeded() }
        let wasReached = connections > self.connections
        self.connections = connections
        let since = wasReached ? now : failingSince ?? now
        failingSince = since
        if wasSent { failures += 1 }
        if let pushback, pushback < .zero { return .giveUp }
        let delay =
            pushback
            ?? (wasSent
                ? backoff.next(using: &random)
                : Backoff.unsent * Double.random(in: 0...1, using: &random))
        beganAt = now + delay
        let isHopeless = wasReached && failures > Self.mostFailures
        return isHopeless || now + delay - since > patience ? .giveUp : .repeatAfter(delay)
    }
}
