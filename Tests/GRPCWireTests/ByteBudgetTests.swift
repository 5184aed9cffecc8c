// Who may hold how much, and whose turn it is.

import Testing

@testable import GRPCWire

@Suite struct ByteBudgetTests {
    private final class Holder {}

    /// A budget whose changes can stand in expectations.
    private final class Ledger {
        private var budget: ByteBudget<Holder>

        init(limitBytes: Int) { budget = ByteBudget(limitBytes: limitBytes) }

        var takenBytes: Int { budget.takenBytes }
        func take(_ bytes: Int, for holder: Holder) -> Bool { budget.take(bytes, for: holder) }
        func takeNow(_ bytes: Int) -> Bool { budget.takeNow(bytes) }
        func giveBack(_ bytes: Int) { budget.giveBack(bytes) }
        func leave(_ holder: Holder) { budget.leave(holder) }
        func admitted() -> Holder? { budget.admitted()?.holder }
    }

    @Test func whoDoesNotFitWaitsInOrder() {
        let ledger = Ledger(limitBytes: 100)
        let holders = (0..<4).map { _ in Holder() }
        #expect(ledger.take(60, for: holders[0]))
        #expect(!ledger.take(60, for: holders[1]))
        // It would fit, but somebody else was first.
        #expect(!ledger.take(10, for: holders[2]))
        #expect(!ledger.takeNow(1))
        #expect(ledger.admitted() === nil)
        ledger.giveBack(60)
        #expect(ledger.admitted() === holders[1])
        #expect(ledger.admitted() === holders[2])
        #expect(ledger.admitted() === nil)
        #expect(ledger.takenBytes == 70)
        #expect(ledger.takeNow(30))
        #expect(!ledger.takeNow(1))
    }

    @Test func oneIsTakenWhateverItsSize() {
        let ledger = Ledger(limitBytes: 10)
        let (first, second) = (Holder(), Holder())
        #expect(ledger.take(1000, for: first))
        #expect(!ledger.take(1000, for: second))
        ledger.giveBack(1000)
        #expect(ledger.admitted() === second)
        #expect(ledger.takenBytes == 1000)
    }

    @Test func whoLeavesMakesWay() {
        let ledger = Ledger(limitBytes: 100)
        let holders = (0..<3).map { _ in Holder() }
        #expect(ledger.take(60, for: holders[0]))
        #expect(!ledger.take(60, for: holders[1]))
        #expect(!ledger.take(30, for: holders[2]))
        ledger.leave(holders[1])
        #expect(ledger.admitted() === holders[2])
        #expect(ledger.takenBytes == 90)
    }
}
