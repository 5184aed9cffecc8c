// The decisions by themselves: no process, no clock, no descriptor.

import LinuxIO
import ProcgateV1
import Testing

@testable import Supervision

private func at(_ milliseconds: Int64) -> Instant {
    Instant(nanoseconds: milliseconds * 1_000_000)
}

@Suite struct Decisions {
    // MARK: Admission

    @Test func theQueueKeepsItsLimitsAndItsOrder() {
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<200 {
            let maxRunning = Int.random(in: 1...4, using: &generator)
            let maxQueued = Int.random(in: 0...6, using: &generator)
            var queue = AdmissionQueue(maxRunning: maxRunning, maxQueued: maxQueued)
            var line: [UInt64] = []
            var running = 0
            for serial in 1...300 as ClosedRange<UInt64> {
                switch Int.random(in: 0..<4, using: &generator) {
                case 0, 1:
                    let decision = queue.admit(serial)
                    if running < maxRunning, line.isEmpty {
                        #expect(decision == .start)
                        running += 1
                    } else if line.count < maxQueued {
                        #expect(decision == .wait)
                        line.append(serial)
                    } else {
                        #expect(decision == .refuse)
                    }
                case 2 where running > 0:
                    queue.finish()
                    running -= 1
                    while running < maxRunning, !line.isEmpty {
                        let next = queue.next()
                        #expect(next == line.removeFirst())
                        running += 1
                    }
                    let nobody = queue.next()
                    #expect(nobody == nil)
                case 3 where !line.isEmpty:
                    let left = line.remove(at: Int.random(in: 0..<line.count, using: &generator))
                    queue.leave(left)
                default: break
                }
                #expect(queue.runningCount == running)
                #expect(queue.queuedCount == line.count)
            }
        }
    }

    // MARK: Stop

    @Test func aStopGivesTermThenKill() {
        var plan = StopPlan()
        #expect(
            plan.request(.stopped, grace: .seconds(5), now: at(0)) == .terminate(killAt: at(5000)))
        #expect(plan.due(now: at(4999)) == .nothing)
        #expect(plan.request(.stopped, grace: .seconds(5), now: at(1000)) == .nothing)
        #expect(
            plan.request(.timeout, grace: .seconds(1), now: at(2000)) == .hasten(killAt: at(3000)))
        #expect(plan.due(now: at(3000)) == .kill)
        #expect(plan.due(now: at(3001)) == .nothing)
        #expect(plan.request(.shutdown, grace: .zero, now: at(3002)) == .nothing)
        #expect(plan.cause == .timeout)
        var killed = StopPlan()
        _ = killed.request(.callerGone, grace: .zero, now: at(0))
        _ = killed.request(.timeout, grace: .seconds(5), now: at(1))
        #expect(killed.cause == .callerGone)
    }

    @Test func aStopWithoutGraceKillsAtOnce() {
        var plan = StopPlan()
        #expect(plan.request(.callerGone, grace: .zero, now: at(0)) == .kill)
        var hurried = StopPlan()
        _ = hurried.request(.timeout, grace: .seconds(5), now: at(0))
        #expect(hurried.request(.stopped, grace: .zero, now: at(1)) == .kill)
        #expect(hurried.cause == .timeout)
    }

    // MARK: Stdin

    @Test func aWriteBelongsWhereItsOffsetSays() {
        var window = StdinWindow()
        #expect(window.place(offset: nil, count: 5, eof: true) == .write(skip: 0))
        #expect(window.place(offset: 0, count: 5, eof: true) == .write(skip: 0))
        #expect(window.place(offset: 1, count: 5, eof: true) == .gap)
        window.accept(10)
        #expect(window.place(offset: 7, count: 5, eof: true) == .write(skip: 3))
        #expect(window.place(offset: 0, count: 5, eof: true) == .write(skip: 5))
        #expect(window.place(offset: 11, count: 0, eof: true) == .gap)
        window.close(byWriter: true)
        #expect(window.place(offset: 0, count: 10, eof: true) == .repeated)
        #expect(window.place(offset: 0, count: 11, eof: true) == .closed)
        #expect(window.place(offset: nil, count: 0, eof: true) == .closed)
        #expect(window.place(offset: .max, count: 1, eof: true) == .gap)
        var broken = StdinWindow()
        broken.accept(10)
        broken.close(byWriter: false)
        #expect(broken.place(offset: 0, count: 10, eof: true) == .closed)
        #expect(broken.place(offset: 0, count: 10, eof: false) == .repeated)
    }

    // MARK: Drain

    @Test func aProcessHasEndedOnceItsPipesAreClosedOrQuiet() {
        var drain = Drain()
        #expect(drain.decide(now: at(0)) == .wait)
        drain.commandEndedAt = at(100)
        #expect(drain.decide(now: at(100)) == .end)
        drain.hasOpenOutput = true
        #expect(drain.decide(now: at(100)) == .waitUntil(at(350)))
        drain.lastOutputAt = at(300)
        #expect(drain.decide(now: at(549)) == .waitUntil(at(550)))
        #expect(drain.decide(now: at(550)) == .end)
        drain.isHeldBack = true
        #expect(drain.decide(now: at(5000)) == .wait)
        drain.isHeldBack = false
        drain.mustBeGone = true
        #expect(drain.decide(now: at(5000)) == .wait)
        drain.treeIsGone = true
        #expect(drain.decide(now: at(5000)) == .end)
    }

    // MARK: Pacing

    @Test func onlyShortReadsThatFollowEachOtherAreSpacedOut() {
        var pacing = ReadPacing()
        #expect(pacing.delay(now: at(0)) == nil)
        pacing.didRead(100, at: at(0))
        let later = at(0) + .microseconds(150)
        #expect(pacing.delay(now: at(0)) == later)
        #expect(pacing.delay(now: later) == nil)
        pacing.didRead(65_536, at: at(1))
        #expect(pacing.delay(now: at(1)) == nil)
    }

    // MARK: Owners

    @Test func whoGoesIsNotWaitedFor() {
        let calls = [1, 2].map { CallID(link: 1, call: $0) }
        var ownership = Ownership()
        for call in calls { ownership.join(call, policy: .kill) }
        #expect(ownership.take(through: 7, by: calls[0]) == 0)
        #expect(ownership.take(through: 3, by: calls[1]) == 3)
        #expect(ownership.leave(calls[1], reason: .lost, hasKey: true) == .nothing)
        #expect(ownership.takenByAll == 7)
        #expect(ownership.leave(calls[0], reason: .lost, hasKey: true) == .awaitReturn)
        #expect(ownership.takenByAll == nil)
    }

    @Test func theLastOwnersGoingDecides() {
        let calls = (0..<3).map { CallID(link: 1, call: $0) }
        func ownership(_ policies: OwnerPolicy...) -> Ownership {
            var owners = Ownership()
            for (call, policy) in zip(calls, policies) { owners.join(call, policy: policy) }
            return owners
        }
        var one = ownership(.kill)
        #expect(one.leave(calls[0], reason: .completed, hasKey: true) == .letGo)
        one = ownership(.kill)
        #expect(one.leave(calls[0], reason: .cancelled, hasKey: true) == .kill)
        one = ownership(.kill)
        #expect(one.leave(calls[0], reason: .lost, hasKey: false) == .kill)
        one = ownership(.kill)
        #expect(one.leave(calls[0], reason: .lost, hasKey: true) == .awaitReturn)
        #expect(one.windowPassed() == .kill)
        #expect(one.windowPassed() == .nothing)
        one = ownership(.keep)
        #expect(one.leave(calls[0], reason: .cancelled, hasKey: false) == .awaitReturn)
        one.join(calls[1], policy: .kill)
        #expect(one.windowPassed() == .nothing)
        #expect(one.leave(calls[2], reason: .cancelled, hasKey: false) == .nothing)
        var two = ownership(.keep, .kill)
        #expect(two.leave(calls[1], reason: .cancelled, hasKey: false) == .nothing)
        #expect(two.leave(calls[0], reason: .lost, hasKey: true) == .awaitReturn)
        #expect(two.windowPassed() == .letGo)
        var none = ownership(.none)
        #expect(none.isEmpty)
        #expect(none.leave(calls[0], reason: .cancelled, hasKey: false) == .nothing)
    }

    // MARK: Retention

    @Test func endedProcessesAreForgottenInTheOrderTheyEnded() {
        var ledger = EndedLedger()
        for serial in 1...200 as ClosedRange<UInt64> {
            ledger.add(serial, expiresAt: at(Int64(serial)), bytes: Int(serial))
        }
        for serial in 1...150 as ClosedRange<UInt64> where serial % 2 == 0 { ledger.remove(serial) }
        #expect(ledger.count == 125)
        #expect(ledger.recordBytes == 20_100 - 75 * 76)
        #expect(ledger.popExpired(at: at(0)) == nil)
        #expect(ledger.popExpired(at: at(3)) == 1)
        #expect(ledger.popExpired(at: at(3)) == 3)
        #expect(ledger.popExpired(at: at(3)) == nil)
        #expect(ledger.nextExpiry() == at(5))
        #expect(ledger.popOldest() == 5)
    }

    @Test func whatIsKeptForACallerThatMayComeBackIsTrimmedInTime() {
        var ledger = EndedLedger()
        for serial in 1...4 as ClosedRange<UInt64> {
            ledger.add(serial, expiresAt: at(100), bytes: 1)
            ledger.keepsMore(serial, until: at(Int64(serial)))
        }
        ledger.remove(1)
        #expect(ledger.nextTrim() == at(2))
        #expect(ledger.popTrim(at: at(1)) == nil)
        #expect(ledger.popTrim(at: at(2)) == 2)
        #expect(ledger.popTrim(at: at(2)) == nil)
        #expect(ledger.popOldestTrim() == 3)
        #expect(ledger.popOldest() == 2)
        #expect(ledger.popOldest() == 3)
        #expect(ledger.popOldest() == 4)
        #expect(ledger.nextTrim() == nil)
        #expect(ledger.popOldestTrim() == nil)
    }

    @Test func aRetiredSegmentIsFreeOnceEveryLinkHasLeftIt() {
        var retired = RetiredSegments()
        #expect(retired.retire(0, followers: []) == true)
        #expect(retired.retire(1, followers: [7, 8]) == false)
        #expect(retired.retire(2, followers: [7]) == false)
        #expect(retired.acknowledge(1, by: 7) == false)
        #expect(retired.acknowledge(1, by: 7) == false)
        #expect(retired.acknowledge(1, by: 8) == true)
        #expect(retired.drop(7) == [2])
        #expect(retired.isEmpty)
    }

    // MARK: Names and digests

    @Test func everySignalHasItsNameAndNumber() {
        for number in 1...31 as ClosedRange<Int32> {
            let name = SignalName.name(of: number)
            #expect(SignalName.number(of: name) == number)
            #expect(SignalName.number(of: String(name.dropFirst(3)).lowercased()) == number)
            #expect(SignalName.number(of: String(number)) == number)
        }
        #expect(SignalName.name(of: 9) == "SIGKILL")
        #expect(SignalName.name(of: 36) == "SIGRTMIN+2")
        #expect(SignalName.number(of: "SIGRTMAX") == 64)
        #expect(SignalName.number(of: "RTMAX-1") == 63)
        for (alias, number) in [("SIGIO", 29), ("poll", 29), ("IOT", 6), ("SigCld", 17)] {
            #expect(SignalName.number(of: alias) == Int32(number))
        }
        for text in [
            "0", "65", "", "SIG", "RTMIN+999999999999", "RTMIN-1", "１", "+15", "-15", "RTMIN++1",
            "RTMAX--1", "ſIGTERM", "RTMIN+",
        ] {
            #expect(SignalName.number(of: text) == nil, "\(text)")
        }
    }

    @Test func aDigestTellsSpecsApartWhateverTheOrderOfTheirMaps() {
        func digest(_ change: (inout ProcessSpec) -> Void) -> SpecDigest {
            SpecDigest(ProcessSpec.with(change))
        }
        let pairs = (0..<50).map { ("K\($0)", "V\($0)") }
        #expect(
            digest { $0.env = Dictionary(uniqueKeysWithValues: pairs) }
                == digest { $0.env = Dictionary(uniqueKeysWithValues: pairs.reversed()) })
        #expect(digest { $0.args = ["a", "b"] } != digest { $0.args = ["ab"] })
        #expect(digest { $0.env = ["a": "b"] } != digest { $0.labels = ["a": "b"] })
    }

    @Test func aLineOfStatIsReadWhateverTheName() {
        let entry = ProcessTable.parse("12 (a) b) (c) S 1 12 13 0 -1", pid: 12)
        #expect(
            entry
                == ProcessEntry(
                    pid: 12, state: UInt8(ascii: "S"), parent: 1, group: 12, session: 13))
        #expect(ProcessTable.parse("12", pid: 12) == nil)
    }

    // MARK: Timers

    @Test func timersFireInOrderAndNotWhenCancelled() {
        for _ in 0..<50 {
            var heap = TimerHeap<Int>()
            var expected: [(Int64, Int)] = []
            for value in 0..<200 {
                let deadline = Int64.random(in: 0..<100)
                let id = heap.add(value, at: at(deadline))
                if Int.random(in: 0..<3) == 0 {
                    heap.cancel(id)
                } else {
                    expected.append((deadline, value))
                }
            }
            #expect(heap.count == expected.count)
            var fired: [(Int64, Int)] = []
            for now in 0..<100 as Range<Int64> {
                while let (_, value) = heap.popDue(at: at(now)) { fired.append((now, value)) }
            }
            #expect(fired.map(\.0) == expected.map(\.0).sorted())
            #expect(fired.map(\.1).sorted() == expected.map(\.1).sorted())
            let next = heap.nextDeadline()
            #expect(next == nil)
        }
    }
}
