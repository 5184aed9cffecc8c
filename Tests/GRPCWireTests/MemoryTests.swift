// Who may hold how much, and whose turn it is.

import NIOCore
import NIOEmbedded
import Testing

@testable import GRPCWire

@Suite struct MemoryTests {
    private static let mebi = 1024 * 1024
    private let loop = EmbeddedEventLoop()

    /// Three quarters of the memory are for what is held.
    private func memory(_ bytes: Int) -> BufferMemory {
        BufferMemory(limitBytes: bytes / 3 * 4)
    }

    private func connection(of shared: BufferMemory, limit: Int = 64 * mebi) -> ConnectionMemory {
        ConnectionMemory(limitBytes: limit, shared: shared, eventLoop: loop)
    }

    private final class Holder {
        var isServed = false
    }

    private func take(_ bytes: Int, _ holder: Holder, of connection: ConnectionMemory) {
        holder.isServed = connection.take(bytes, for: holder) { holder.isServed = true }
    }

    @Test func aReserveIsEachConnectionsOwn() {
        let shared = memory(3 * Self.mebi)
        connection(of: shared).hold(3 * Self.mebi + ConnectionMemory.reserveBytes)
        let greedy = connection(of: shared)
        greedy.hold(40 * Self.mebi)
        #expect(!greedy.hasRoom)
        let small = connection(of: shared)
        #expect(small.hasRoom)
        #expect(small.takeNow(ConnectionMemory.reserveBytes))
        #expect(!small.takeNow(1))
    }

    @Test func holdersOfOneConnectionWaitInOrder() {
        let one = connection(of: memory(300 * Self.mebi))
        let holders = (0..<3).map { _ in Holder() }
        take(40 * Self.mebi, holders[0], of: one)
        take(20 * Self.mebi, holders[1], of: one)
        // It would fit, but another one was first.
        take(1 * Self.mebi, holders[2], of: one)
        #expect(holders.map(\.isServed) == [true, false, false])
        #expect(!one.takeNow(1))
        #expect(one.takeNow(1, overtakes: true))
        one.release(40 * Self.mebi + 1)
        #expect(holders.allSatisfy { $0.isServed })
        #expect(one.heldBytes == 21 * Self.mebi)
    }

    @Test func aHolderThatLeavesMakesWay() {
        let one = connection(of: memory(300 * Self.mebi))
        let holders = (0..<3).map { _ in Holder() }
        take(40 * Self.mebi, holders[0], of: one)
        take(20 * Self.mebi, holders[1], of: one)
        take(5 * Self.mebi, holders[2], of: one)
        one.leave(holders[1])
        #expect(!holders[1].isServed)
        #expect(holders[2].isServed)
    }

    @Test func oneIsServedWhateverItsSize() {
        let shared = memory(6 * Self.mebi)
        let one = connection(of: shared)
        let two = connection(of: shared)
        let (first, second) = (Holder(), Holder())
        take(50 * Self.mebi, first, of: one)
        take(50 * Self.mebi, second, of: two)
        #expect(first.isServed)
        #expect(!second.isServed)
        one.release(50 * Self.mebi)
        loop.run()
        #expect(second.isServed)
        two.release(50 * Self.mebi)
        #expect(shared.takenBytes == 0)
    }

    @Test func whatIsFreeIsLeftToWhoeverHoldsLess() {
        let shared = memory(84 * Self.mebi)
        let greedy = connection(of: shared)
        let (first, more) = (Holder(), Holder())
        take(44 * Self.mebi, first, of: greedy)
        // 40 are free, but then it would hold more than is left to others.
        take(4 * Self.mebi, more, of: greedy)
        #expect(first.isServed)
        #expect(!more.isServed)
        // It is held up by its own share alone, and is overtaken.
        let modest = connection(of: shared)
        let other = Holder()
        take(16 * Self.mebi, other, of: modest)
        #expect(other.isServed)
        // What is small goes on.
        #expect(greedy.takeNow(10_000, overtakes: true))
        #expect(greedy.hasRoom)
        greedy.release(44 * Self.mebi)
        loop.run()
        #expect(more.isServed)
    }

    @Test func aLargeMessageLeavesTheReserveToSmallOnes() {
        let shared = memory(12 * Self.mebi)
        let one = connection(of: shared)
        #expect(one.takeNow(6 * Self.mebi))
        connection(of: shared).hold(6 * Self.mebi + ConnectionMemory.reserveBytes)
        // Nothing is free.
        one.hold(ConnectionMemory.reserveBytes)
        #expect(one.hasRoom)
        one.hold(Self.mebi)
        #expect(!one.hasRoom)
    }

    @Test func anAskThatIsOverHoldsUpNobody() {
        let shared = memory(12 * Self.mebi)
        let one = connection(of: shared)
        #expect(one.takeNow(8 * Self.mebi))
        let two = connection(of: shared)
        let (first, second) = (Holder(), Holder())
        take(6 * Self.mebi, first, of: two)
        two.leave(first)
        take(2 * Self.mebi, second, of: connection(of: shared))
        #expect(!first.isServed)
        #expect(second.isServed)
    }

    /// What a waiting connection has left over goes back, and it comes to rest.
    @Test func manyAreServedOneAfterTheOther() {
        let shared = memory(48 * Self.mebi)
        let connections = (0..<3).map { _ in connection(of: shared) }
        for one in connections {
            for _ in 0..<30 { one.hold(71_234) }
        }
        var waiting: [(ConnectionMemory, Holder)] = []
        for count in 0..<90 {
            let holder = Holder()
            let one = connections[count % 3]
            take(4 * Self.mebi, holder, of: one)
            waiting.append((one, holder))
        }
        while !waiting.isEmpty {
            loop.run()
            guard let next = waiting.firstIndex(where: { $0.1.isServed }) else { break }
            let (one, _) = waiting.remove(at: next)
            one.release(4 * Self.mebi)
            one.release(71_234)
        }
        loop.run()
        #expect(waiting.isEmpty)
        #expect(shared.takenBytes == 0)
    }

    @Test func roomIsToldOfOnce() {
        let shared = memory(6 * Self.mebi)
        let other = connection(of: shared)
        other.hold(Self.mebi)
        let one = connection(of: shared)
        var told = 0
        one.whenRoom = { told += 1 }
        one.hold(10 * Self.mebi)
        #expect(!one.hasRoom)
        one.release(10 * Self.mebi)
        #expect(told == 1)
        one.hold(100)
        one.release(100)
        #expect(told == 1)
        other.release(Self.mebi)
        #expect(shared.takenBytes == 0)
    }

    @Test func aClosedConnectionWaitsForNothing() {
        let shared = memory(6 * Self.mebi)
        let one = connection(of: shared)
        let two = connection(of: shared)
        one.hold(6 * Self.mebi)
        let holder = Holder()
        take(6 * Self.mebi, holder, of: two)
        two.close()
        one.release(6 * Self.mebi)
        loop.run()
        #expect(!holder.isServed)
        #expect(shared.takenBytes == 0)
    }

    @Test func aChargeIsReleasedWhenNobodyKeepsIt() {
        let one = connection(of: memory(6 * Self.mebi))
        one.hold(1000)
        var charge: MemoryCharge? = MemoryCharge(1000, of: one, on: loop)
        #expect(charge?.byteCount == 1000)
        #expect(one.heldBytes == 1000)
        charge = nil
        #expect(one.heldBytes == 0)
    }

    @Test func windowsHaveAQuarter() {
        let shared = BufferMemory(limitBytes: 4 * Self.mebi)
        #expect(shared.takeWindow(Self.mebi))
        #expect(!shared.takeWindow(1))
        shared.giveBackWindow(Self.mebi)
        #expect(shared.takeWindow(1))
    }

    @Test func muchThatIsFreeIsToldOfAndReturnedOnce() {
        let box = NIOLoopBoundBox(0, eventLoop: loop)
        let shared = BufferMemory(limitBytes: 400 * Self.mebi) { _ in box.value += 1 }
        let one = connection(of: shared)
        one.hold(40 * Self.mebi)
        one.release(40 * Self.mebi)
        #expect(box.value == 1)
        one.hold(40 * Self.mebi)
        // It is used again.
        #expect(!shared.shouldReturnNow())
        one.release(40 * Self.mebi)
        #expect(box.value == 2)
        #expect(shared.shouldReturnNow())
        one.hold(Self.mebi)
        one.release(Self.mebi)
        #expect(box.value == 2)
    }
}
