// Budgets, windows and pauses: values that decide, at chosen times.

import LinuxIO
import Testing

@testable import Supervision

private func at(_ milliseconds: Int64) -> Instant {
    Instant(nanoseconds: milliseconds * 1_000_000)
}

@Suite struct BudgetTests {
    // MARK: Input memory

    @Test func oneOwnerCannotFillTheInputBudget() {
        var budget = InputBudget(limitBytes: 16 << 20)
        #expect(budget.take(6 << 20, owner: "a") == true)
        #expect(budget.take(6 << 20, owner: "a") == true)
        // Three quarters are held.
        #expect(budget.take(1 << 20, owner: "a") == false)
        #expect(budget.take(2 << 20, owner: "b") == true)
        #expect(budget.usedBytes == 14 << 20)
        budget.giveBack(6 << 20, owner: "a")
        #expect(budget.take(1 << 20, owner: "a") == true)
        #expect(budget.usedBytes == 9 << 20)
    }

    @Test func smallRequestsHaveAReserve() {
        var budget = InputBudget(limitBytes: 16 << 20)
        #expect(budget.take(15 << 20, owner: "a") == true)
        #expect(budget.take(1 << 20, owner: "b") == false)
        for _ in 0..<16 { #expect(budget.take(64 << 10, owner: "b") == true) }
        #expect(budget.usedBytes == 16 << 20)
        #expect(budget.take(1, owner: "b") == false)
    }

    @Test func aRequestAsLargeAsTheLimitAllowsIsTakenWhenNothingElseIsHeld() {
        var budget = InputBudget(limitBytes: 16 << 20)
        #expect(budget.take(16 << 20, owner: "a") == false)
        #expect(budget.take(15 << 20, owner: "a") == true)
        budget.giveBack(15 << 20, owner: "a")
        #expect(budget.usedBytes == 0)
        #expect(budget.take(15 << 20, owner: "a") == true)
    }

    @Test func theInputBudgetNeverExceedsItsLimit() {
        var random = SplitMix(seed: 7)
        var budget = InputBudget(limitBytes: 1 << 20)
        var held: [(bytes: Int, owner: String)] = []
        for _ in 0..<10_000 {
            if Bool.random(using: &random) || held.isEmpty {
                let bytes = Int.random(in: 0...1 << 18, using: &random)
                let owner = ["a", "b", "c"][Int.random(in: 0..<3, using: &random)]
                if budget.take(bytes, owner: owner) { held.append((bytes, owner)) }
            } else {
                let (bytes, owner) = held.remove(at: .random(in: held.indices, using: &random))
                budget.giveBack(bytes, owner: owner)
            }
            #expect(budget.usedBytes == held.reduce(0) { $0 + $1.bytes })
            #expect(budget.usedBytes <= budget.limitBytes)
        }
    }

    // MARK: Launches

    @Test func launchesThatHangHoldUpTheLineForAFewSteps() {
        var window = LaunchWindow()
        var waiting = 200
        var steps = 0
        var now = at(0)
        while waiting > 0 {
            while window.hasRoom, waiting > 0 {
                window.begin(UInt64(waiting), at: now)
                waiting -= 1
            }
            steps += 1
            now = now + LaunchWindow.slowTime
            window.advance(to: now)
        }
        // One at a time they would be 25 steps, eight at once.
        #expect(steps <= 4)
    }

    @Test func launchesThatAreDoneMakeRoom() {
        var window = LaunchWindow()
        for launch in 1...8 as ClosedRange<UInt64> { window.begin(launch, at: at(0)) }
        #expect(!window.hasRoom)
        #expect(window.nextSlow == at(10))
        window.end(3)
        #expect(window.hasRoom)
        window.advance(to: at(9))
        window.begin(9, at: at(9))
        #expect(!window.hasRoom)
        window.endAll()
        #expect(window.hasRoom)
        #expect(window.nextSlow == nil)
    }

    // MARK: Users

    @Test func aUserIsLookedUpOnceForAllThatWait() {
        var lookups = UserLookups()
        #expect(lookups.known("a", now: at(0)) == nil)
        #expect(lookups.wait(1, for: "a") == true)
        #expect(lookups.wait(2, for: "a") == false)
        #expect(lookups.wait(3, for: "b") == true)
        lookups.leave(1, "a")
        #expect(lookups.finish("a", .unknown, now: at(0)) == [2])
        #expect(lookups.finish("a", .unknown, now: at(0)) == [])
        #expect(lookups.known("a", now: at(1999)) == .unknown)
        #expect(lookups.known("a", now: at(2000)) == nil)
        let user = UserRecord(
            name: "b", uid: 1, gid: 1, home: "/", shell: "/bin/sh", groups: [1])
        #expect(lookups.finish("b", .user(user), now: at(0)) == [3])
        #expect(lookups.known("b", now: at(29_999)) == .user(user))
        #expect(lookups.known("b", now: at(30_000)) == nil)
    }

    @Test func answersOfAResolverAreChecked() {
        func parse(_ bytes: [UInt8]) -> Bool {
            bytes.withUnsafeBytes { Resolver.parse($0, to: .user("")) != nil }
        }
        #expect(!parse([]))
        #expect(!parse([UInt8](repeating: 0, count: 39)))
        // The head alone: number 1, no error, one group that is not there.
        var head = [UInt8](repeating: 0, count: 40)
        head[0] = 1
        head[20] = 1
        #expect(!parse(head))
        head[20] = 0xFF
        head[21] = 0xFF
        head[22] = 0xFF
        head[23] = 0xFF
        #expect(!parse(head))
        // An error: ENOENT says that there is no such user, whatever follows.
        head[8] = 2
        #expect(parse(head))
        var random = SplitMix(seed: 1)
        for _ in 0..<1000 {
            let count = Int.random(in: 0..<200, using: &random)
            _ = parse((0..<count).map { _ in UInt8.random(in: 0...255, using: &random) })
        }
    }

    // MARK: Pauses

    @Test func pausesDoubleUntilSomethingSucceeds() {
        var backoff = Backoff(first: .milliseconds(50), largest: .milliseconds(180))
        #expect(backoff.failed() == .zero)
        #expect(backoff.failed() == .milliseconds(50))
        #expect(backoff.failed() == .milliseconds(100))
        #expect(backoff.failed() == .milliseconds(180))
        #expect(backoff.failed() == .milliseconds(180))
        backoff.succeeded()
        #expect(backoff.failed() == .zero)
    }

    // MARK: Ended processes

    @Test func aProcessWithDescendantsIsNotForgottenUntilTheyAreGone() {
        var ledger = EndedLedger()
        ledger.add(1, expiresAt: nil, bytes: 1)
        ledger.add(2, expiresAt: at(5), bytes: 1)
        #expect(ledger.popExpired(at: at(100)) == 2)
        #expect(ledger.popOldest() == nil)
        // Its output may be given up all the same.
        #expect(ledger.popOldestOutput() == 1)
        ledger.expire(1, at: at(200))
        #expect(ledger.popExpired(at: at(199)) == nil)
        #expect(ledger.popExpired(at: at(200)) == 1)
        ledger.expire(1, at: at(300))
        #expect(ledger.nextExpiry() == nil)
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers in each run.
private struct SplitMix: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed
    }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
        return value ^ value >> 31
    }
}
