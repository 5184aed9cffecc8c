// When a failed call is tried again.

import Testing

@testable import ProcgateClient

@Suite("Repeats")
struct RetryTests {
    /// Always as long as it may be.
    private struct Longest: RandomNumberGenerator {
        mutating func next() -> UInt64 { .max }
    }

    @Test("The delays' bound doubles up to the largest, and begins anew after a success")
    func doubling() {
        var backoff = Backoff()
        var random = Longest()
        var delays = (0..<9).map { _ in backoff.next(using: &random) }
        #expect(delays.first.map { $0 <= Backoff.first } == true)
        #expect(delays.allSatisfy { $0 <= Backoff.largest })
        #expect(delays == delays.sorted())
        backoff.reset()
        delays = [backoff.next(using: &random)]
        #expect(delays[0] <= Backoff.first)
    }

    @Test("A call gives up when its patience is over, counted from the first failure")
    func patience() {
        var retry = RetryState(patience: .seconds(2))
        var random = Longest()
        #expect(retry.failed(now: .seconds(100), using: &random) != .giveUp)
        #expect(retry.failed(now: .seconds(101), using: &random) != .giveUp)
        #expect(retry.failed(now: .seconds(103), using: &random) == .giveUp)
    }

    @Test("What works in between starts the patience anew")
    func successInBetween() {
        var retry = RetryState(patience: .seconds(2))
        var random = Longest()
        _ = retry.failed(now: .seconds(100), using: &random)
        retry.succeeded()
        #expect(retry.failed(now: .seconds(103), using: &random) != .giveUp)
    }

    @Test("A gateway that was reached in between is worth another try, but not for ever")
    func reachedInBetween() {
        var retry = RetryState(patience: .seconds(2))
        var random = Longest()
        var given = 0
        while retry.failed(
            now: .seconds(3 * given), connections: given + 1, using: &random) != .giveUp
        {
            given += 1
        }
        #expect(given == RetryState.mostFailures)
        retry = RetryState(patience: .seconds(2))
        #expect(retry.failed(now: .seconds(0), connections: 7, using: &random) != .giveUp)
        #expect(retry.failed(now: .seconds(3), connections: 7, using: &random) == .giveUp)
    }

    @Test("A call that is cut off every few minutes never gives up, one that is never sent does")
    func longAttempts() {
        var retry = RetryState(patience: .seconds(30))
        var random = Longest()
        for cut in 0..<(3 * RetryState.mostFailures) {
            let decision = retry.failed(
                now: .seconds(300 * cut), connections: cut + 1, using: &random)
            #expect(decision != .giveUp)
            retry.begins(now: .seconds(300 * cut + 1))
        }
        retry = RetryState(patience: .seconds(30))
        #expect(retry.failed(now: .zero, wasSent: false, using: &random) != .giveUp)
        #expect(retry.failed(now: .seconds(40), wasSent: false, using: &random) == .giveUp)
    }

    @Test("The gateway's own delay is kept exactly, and a negative one forbids the repeat")
    func pushback() {
        var random = SystemRandomNumberGenerator()
        var retry = RetryState(patience: .seconds(30))
        #expect(
            retry.failed(now: .zero, pushback: .milliseconds(700), using: &random)
                == .repeatAfter(.milliseconds(700)))
        #expect(retry.failed(now: .zero, pushback: .milliseconds(-1), using: &random) == .giveUp)
    }

    @Test("A burst is let through; what exceeds it waits its turn")
    func budget() {
        var budget = RetryBudget()
        let waits = (0..<400).map { _ in budget.take(now: .zero) }
        #expect(waits[0] == .zero)
        #expect(waits[Int(RetryBudget.burst) - 1] == .zero)
        #expect(waits[399] > .milliseconds(900) && waits[399] < .milliseconds(1100))
        #expect(budget.take(now: .seconds(10)) == .zero)
    }

    @Test("A pause ends when its alarm is raised, before it or during it, or with its task")
    func alarms() async {
        let alarm = Alarm()
        async let paused: Void = pause(for: .seconds(3600), until: [Alarm(), alarm])
        alarm.raise()
        await paused
        #expect(alarm.isRaised)
        await pause(for: .seconds(3600), until: [alarm])
        let task = Task { await pause(for: .seconds(3600), until: []) }
        task.cancel()
        await task.value
        await pause(for: .milliseconds(1), until: [Alarm()])
    }

    @Test("Request keys are 128 bits in hexadecimal, and differ")
    func keys() {
        let keys = (0..<1000).map { _ in makeRequestKey() }
        #expect(Set(keys).count == 1000)
        #expect(keys.allSatisfy { $0.count == 32 && $0.allSatisfy(\.isHexDigit) })
    }

    @Test("Durations go over the wire in whole milliseconds, rounded up")
    func durations() {
        #expect(Duration.microseconds(1).wireMilliseconds == 1)
        #expect(Duration.zero.wireMilliseconds == 1)
        #expect(Duration.zero.wholeMilliseconds == 0)
        #expect(Duration.milliseconds(1500).wireMilliseconds == 1500)
        #expect(Duration.seconds(Int64.max).wireMilliseconds == UInt64(Int64.max))
        #expect(Duration.seconds(-5).wholeMilliseconds == 0)
    }
}
