// Queue, owners, request keys, what is remembered, and who is told.

import CLinux
import Glibc
import LinuxIO
import OutputLog
import ProcgateV1
import Testing

@testable import Supervision

extension WithProcesses {
    @Suite struct Lifecycle {
        // MARK: Queue

        @Test func oneMoreThanMayRunWaitsItsTurn() throws {
            let harness = try Harness {
                $0.maxRunning = 1
                $0.maxQueued = 2
            }
            let first = try harness.start(shell("sleep 60"))
            let second = try harness.start(shell("echo $((6*7)); cat")) {
                $0.stdin = .bytes(Array("in".utf8))
                $0.follow = true
            }
            #expect(first.process.status == .running)
            #expect(second.process.status == .queued)
            #expect(second.process.pid == 0)
            let third = try harness.start(shell("true") { $0.queueTimeoutMs = 100 })
            #expect(try harness.refusal(of: shell("true")) == .tooManyProcesses)
            let late = try harness.end(of: third.process.id)
            #expect(late.status == .failed)
            #expect(late.terminationReason == .queueTimeout)
            #expect(late.outcome != nil)
            _ = try harness.process {
                harness.supervisor.stop(first.process.id, grace: .zero, by: $0)
            }
            let running: Process = try harness.wait { notice in
                if case .running(second.serial, let process) = notice { return process }
                return nil
            }
            #expect(running.status == .running)
            let process = try harness.end(of: second.process.id)
            #expect(process.outcome == .exitCode(0))
            #expect(try harness.bytes(of: process.id) == Array("42\nin".utf8))
            try harness.shutDown()
        }

        @Test func signalsToAQueuedProcessMeanThatItNeverStarts() throws {
            let harness = try Harness { $0.maxRunning = 1 }
            _ = try harness.start(shell("sleep 60"))
            for (name, number) in [("TERM", 15), ("SIGINT", 2), ("9", 9)] as [(String, Int32)] {
                let queued = try harness.start(shell("echo no"))
                #expect(
                    try harness.failure {
                        harness.supervisor.signal(queued.process.id, "USR1", .leader, by: $0)
                    } == .processNotRunning)
                let process = try harness.process {
                    harness.supervisor.signal(queued.process.id, name, .unspecified, by: $0)
                }
                #expect(process.status == .killed)
                #expect(process.terminationReason == .stopped)
                #expect(process.outcome == .signal(number))
                #expect(process.startedAt == 0)
            }
            let queued = try harness.start(shell("echo no"))
            let process = try harness.process {
                harness.supervisor.stop(queued.process.id, grace: nil, by: $0)
            }
            #expect(process.status == .killed)
            #expect(process.terminationReason == .stopped)
            try harness.shutDown()
        }

        // MARK: Signals

        @Test func aSignalHasAName() throws {
            let harness = try Harness()
            let started = try harness.start(
                shell("trap 'exit 5' RTMIN+2; echo up; while :; do sleep 0.01; done"))
            let id = started.process.id
            try harness.waitForOutput(of: id)
            for name in ["", "0", "-1", "65", "SIGNOPE", "TERM ", "RTMIN+40", "SIGSIGTERM"] {
                #expect(
                    try harness.failure {
                        harness.supervisor.signal(id, name, .unspecified, by: $0)
                    } == .signalInvalid)
            }
            _ = try harness.process { harness.supervisor.signal(id, "36", .unspecified, by: $0) }
            let process = try harness.end(of: id)
            #expect(process.outcome == .exitCode(5))
            #expect(
                try harness.failure { harness.supervisor.signal(id, "TERM", .tree, by: $0) }
                    == .processNotRunning)
            try harness.shutDown()
        }

        @Test func aStoppedProcessStillAnswersTerm() throws {
            let harness = try Harness()
            let started = try harness.start(
                shell("trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done"))
            let id = started.process.id
            try harness.waitForOutput(of: id)
            _ = try harness.process { harness.supervisor.signal(id, "STOP", .tree, by: $0) }
            let process = try harness.process {
                harness.supervisor.stop(id, grace: .seconds(10), by: $0)
            }
            #expect(process.status == .exited)
            #expect(process.outcome == .exitCode(7))
            #expect(process.terminationReason == .stopped)
            let again = try harness.process { harness.supervisor.stop(id, grace: nil, by: $0) }
            #expect(again == process)
            try harness.shutDown()
        }

        // MARK: Owners

        @Test func aProcessGoesWithTheLastCallThatOwnsIt() throws {
            let harness = try Harness()
            let (first, answer) = try harness.tryStart(shell("sleep 60")) {
                $0.requestKey = "k"
                $0.policy = .kill
            }
            guard case .started(let started) = answer else { throw Harness.TimedOut() }
            let (second, joined) = try harness.tryStart(shell("sleep 60")) {
                $0.requestKey = "k"
                $0.policy = .kill
            }
            guard case .started(let again) = joined else { throw Harness.TimedOut() }
            #expect(again.joined)
            #expect(again.serial == started.serial)
            harness.supervisor.abandon(first, reason: .cancelled)
            try harness.turn(for: .milliseconds(100))
            #expect(
                try harness.process { harness.supervisor.get(started.process.id, by: $0) }.status
                    == .running)
            harness.supervisor.abandon(second, reason: .cancelled)
            let process = try harness.end(of: started.process.id)
            #expect(process.status == .killed)
            #expect(process.outcome == .signal(9))
            #expect(process.terminationReason == .callerGone)
            try harness.shutDown()
        }

        @Test func aLostCallWithAKeyHasTheResumeWindowToComeBack() throws {
            let harness = try Harness { $0.resumeWindow = .seconds(2) }
            for comesBack in [true, false] {
                let spec = shell("sleep 60; : \(comesBack)")
                let change: (inout StartRequest) -> Void = {
                    $0.requestKey = "k\(comesBack)"
                    $0.policy = .kill
                }
                let (call, answer) = try harness.tryStart(spec, change)
                guard case .started(let started) = answer else { throw Harness.TimedOut() }
                harness.supervisor.abandon(call, reason: .lost)
                try harness.turn(for: .milliseconds(150))
                if comesBack { _ = try harness.start(spec, change) }
                try harness.turn(for: .milliseconds(2500))
                let process = try harness.process {
                    harness.supervisor.get(started.process.id, by: $0)
                }
                #expect((process.status == .running) == comesBack)
                if !comesBack { #expect(process.terminationReason == .callerGone) }
            }
            try harness.shutDown()
        }

        @Test func aLostCallWithoutAKeyCannotComeBack() throws {
            let harness = try Harness { $0.resumeWindow = .seconds(3600) }
            let (call, answer) = try harness.tryStart(shell("sleep 60")) { $0.policy = .kill }
            guard case .started(let started) = answer else { throw Harness.TimedOut() }
            harness.supervisor.abandon(call, reason: .lost)
            let process = try harness.end(of: started.process.id)
            #expect(process.terminationReason == .callerGone)
            try harness.shutDown()
        }

        @Test func aKeptProcessIsHeldForTheWindowAndThenLetGo() throws {
            let harness = try Harness { $0.resumeWindow = .seconds(2) }
            let (call, answer) = try harness.tryStart(
                program("head", "-c", "30000000", "/dev/zero")
            ) {
                $0.policy = .keep
                $0.held = true
            }
            guard case .started(let started) = answer else { throw Harness.TimedOut() }
            harness.supervisor.abandon(call, reason: .cancelled)
            try harness.turn(for: .milliseconds(150))
            let held = try harness.process { harness.supervisor.get(started.process.id, by: $0) }
            #expect(held.status == .running)
            #expect(held.firstRetainedSeq == 1)
            let process = try harness.end(of: started.process.id)
            #expect(process.stdoutBytes == 30_000_000)
            #expect(process.status == .exited)
            try harness.shutDown()
        }

        @Test func aLinkThatIsLostTakesItsOwnWithIt() throws {
            let harness = try Harness()
            let owned = try harness.start(shell("sleep 60")) { $0.policy = .kill }
            let free = try harness.start(shell("sleep 60"))
            harness.supervisor.linkClosed(Harness.link)
            try harness.turn {
                harness.supervisor.processes[owned.serial]?.record.status == .killed
            }
            #expect(harness.supervisor.processes[free.serial]?.record.status == .running)
            harness.supervisor.linkOpened(Harness.link)
            try harness.shutDown()
        }

        // MARK: Keys

        @Test func aKeyNamesOneRequest() throws {
            let harness = try Harness()
            let spec = shell("echo once") { $0.env = ["A": "1", "B": "2"] }
            let first = try harness.start(spec) { $0.requestKey = "k" }
            _ = try harness.end(of: first.process.id)
            let again = try harness.start(spec) { $0.requestKey = "k" }
            #expect(again.joined)
            #expect(again.ended)
            #expect(again.process.id == first.process.id)
            for other in [
                shell("echo twice"), shell("echo once"), shell("echo once") { $0.timeoutMs = 1 },
            ] {
                guard
                    case (_, .failure(let refusal)) = try harness.tryStart(
                        other, { $0.requestKey = "k" })
                else { throw Harness.TimedOut() }
                #expect(refusal.reason == .requestKeyReused)
            }
            // A repeat need not bring the input once more.
            let other = try harness.start(spec) {
                $0.requestKey = "k"
                $0.stdin = .bytes([1])
            }
            #expect(other.joined)
            let elsewhere = try harness.start(spec) {
                $0.requestKey = "k"
                $0.owner = "somebody else"
            }
            #expect(!elsewhere.joined)
            let call = harness.newCall()
            harness.supervisor.delete(first.process.id, by: call)
            _ = try harness.answer(to: call)
            #expect(try !harness.start(spec) { $0.requestKey = "k" }.joined)
            try harness.shutDown()
        }

        // MARK: Remembering

        @Test func anEndedProcessIsForgottenInTime() throws {
            let harness = try Harness { $0.retainTime = .milliseconds(200) }
            let process = try harness.run(shell("echo x"))
            #expect(process.expiresAt - process.endedAt == 200)
            let id: String = try harness.wait { notice in
                if case .forgotten(let id, _) = notice { return id }
                return nil
            }
            #expect(id == process.id)
            #expect(try harness.failure { harness.supervisor.get(id, by: $0) } == .processNotFound)
            #expect(harness.supervisor.arena.bytesInUse == 0)
            try harness.shutDown()
        }

        @Test func theOldestGiveWayToNewOutput() throws {
            let harness = try Harness { $0.maxOutputMemory = 4 << 20 }
            var ids: [String] = []
            for _ in 0..<10 {
                ids.append(try harness.run(program("head", "-c", "1000000", "/dev/zero")).id)
            }
            #expect(harness.supervisor.arena.bytesInUse <= 5 << 20)
            // Its output is gone, its result is not.
            let oldest = try harness.process { harness.supervisor.get(ids[0], by: $0) }
            #expect(oldest.outcome == .exitCode(0))
            #expect(oldest.firstRetainedSeq > oldest.lastSeq)
            #expect(try harness.process { harness.supervisor.get(ids[9], by: $0) }.lastSeq > 0)
            // Who runs keeps its share, and is not stopped.
            let loud = try harness.run(program("head", "-c", "20000000", "/dev/zero"))
            #expect(loud.stdoutBytes == 20_000_000)
            #expect(harness.supervisor.arena.bytesInUse <= 6 << 20)
            try harness.shutDown()
        }

        @Test func aFollowersSegmentsStayUntilItHasLeftThem() throws {
            let harness = try Harness()
            let spec = program("head", "-c", "3000000", "/dev/zero") {
                $0.output = .with { $0.retainBytes = 300_000 }
            }
            let started = try harness.start(spec) { $0.follow = true }
            _ = try harness.end(of: started.process.id)
            let held = harness.supervisor.arena.bytesInUse
            #expect(held > 2_500_000)
            let retired = harness.drainNotices().compactMap { notice -> UInt64? in
                if case .retired(_, let ordinal) = notice { return ordinal }
                return nil
            }
            for ordinal in retired {
                harness.supervisor.acknowledgeRetired(
                    started.serial, ordinal: ordinal, by: Harness.link)
            }
            #expect(harness.supervisor.arena.bytesInUse <= 1 << 20)
            let call = harness.newCall()
            harness.supervisor.delete(started.process.id, by: call)
            _ = try harness.answer(to: call)
            #expect(harness.supervisor.arena.bytesInUse > 0)
            harness.supervisor.unfollow(started.serial, by: Harness.link)
            #expect(harness.supervisor.arena.bytesInUse == 0)
            #expect(harness.supervisor.departed.isEmpty)
            try harness.shutDown()
        }

        // MARK: Telling

        @Test func aListIsTheNewestFirstAndFiltered() throws {
            let harness = try Harness()
            let started = try (0..<5).map { index in
                try harness.start(
                    shell("exit \(index)") { $0.labels = ["odd": "\(index % 2)"] })
            }
            let serials = started.map(\.serial)
            for each in started { _ = try harness.end(of: each.process.id) }
            let sleeper = try harness.start(shell("sleep 60"))
            var filter = ListFilter()
            #expect(try harness.list(filter).0 == [sleeper.serial] + serials.reversed())
            filter.limit = 2
            #expect(try harness.list(filter) == ([sleeper.serial, serials[4]], true))
            filter.beforeSerial = serials[4]
            #expect(try harness.list(filter) == ([serials[3], serials[2]], true))
            filter.beforeSerial = serials[2]
            #expect(try harness.list(filter) == ([serials[1], serials[0]], false))
            filter = ListFilter()
            filter.labels = ["odd": "1"]
            #expect(try harness.list(filter).0 == [serials[3], serials[1]])
            filter = ListFilter()
            filter.statuses = [.running, .queued]
            #expect(try harness.list(filter).0 == [sleeper.serial])
            try harness.shutDown()
        }

        @Test func aWatcherHearsOfEveryChange() throws {
            let harness = try Harness { $0.maxRunning = 1 }
            let first = try harness.start(shell("sleep 0.1"))
            let call = harness.newCall()
            harness.supervisor.watch(true, by: call)
            _ = try harness.answer(to: call)
            let second = try harness.start(shell("true"))
            _ = try harness.end(of: second.process.id)
            let changes = harness.drainNotices().compactMap { notice -> String? in
                if case .changed(let process) = notice {
                    return "\(process.id == first.process.id ? 1 : 2) \(process.status)"
                }
                return nil
            }
            #expect(changes == ["2 queued", "1 exited", "2 running", "2 exited"])
            try harness.shutDown()
        }

        @Test func onlyAnEndedProcessIsDeleted() throws {
            let harness = try Harness()
            let started = try harness.start(shell("sleep 60"))
            let id = started.process.id
            #expect(
                try harness.failure { harness.supervisor.delete(id, by: $0) } == .processRunning)
            _ = try harness.process { harness.supervisor.stop(id, grace: .zero, by: $0) }
            let call = harness.newCall()
            harness.supervisor.delete(id, by: call)
            guard case .done = try harness.answer(to: call) else { throw Harness.TimedOut() }
            #expect(
                try harness.failure { harness.supervisor.delete(id, by: $0) } == .processNotFound)
            try harness.shutDown()
        }

        @Test func aShutdownEndsAllAndTakesNoMore() throws {
            let harness = try Harness { $0.maxRunning = 2 }
            let ids = try (0..<4).map { _ in
                try harness.start(shell("(setsid sleep 60 &) ; sleep 60")).process.id
            }
            harness.supervisor.beginShutdown(grace: .milliseconds(100), for: nil)
            #expect(try harness.refusal(of: shell("true")) == .supervisorUnavailable)
            for id in ids {
                let process = try harness.end(of: id)
                #expect(process.status == .killed)
                #expect(process.terminationReason == .shutdown)
            }
            while !harness.supervisor.isFinished { try harness.turn() }
        }

        @Test func aLauncherThatCannotBeForkedIsTriedAgain() throws {
            let harness = try Harness()
            // Its user is known from here on.
            _ = try harness.run(shell("true"))
            let pid = harness.supervisor.launcher.pid
            kill(pid, SIGKILL)
            clinux_reap_child(pid)
            // As where a fork fails: nobody is there, and nobody is told.
            #expect(harness.supervisor.launcher.abandon().isEmpty)
            let call = harness.newCall()
            harness.supervisor.start(StartRequest(spec: shell("echo x")), by: call)
            #expect(harness.supervisor.launchLine.count == 1)
            _ = harness.supervisor.timers.add(.launcher, at: .now() + .milliseconds(50))
            guard case .started(let started) = try harness.answer(to: call) else {
                throw Harness.TimedOut()
            }
            #expect(started.process.status == .running)
            try harness.shutDown()
        }

        @Test func aProcessThatWaitsForTheLauncherCanBeStopped() throws {
            let harness = try Harness()
            _ = try harness.run(shell("true"))
            kill(harness.supervisor.launcher.pid, SIGSTOP)
            let calls = (0..<12).map { _ in harness.newCall() }
            for call in calls {
                var request = StartRequest(spec: shell("sleep 60"))
                request.policy = .kill
                harness.supervisor.start(request, by: call)
            }
            #expect(harness.supervisor.launchLine.count == 4)
            let waiting = try #require(
                harness.supervisor.processes.values.max {
                    $0.serial < $1.serial
                })
            let process = try harness.process {
                harness.supervisor.stop(waiting.id, grace: nil, by: $0)
            }
            #expect(process.status == .killed)
            #expect(process.terminationReason == .stopped)
            #expect(process.startedAt == 0)
            kill(harness.supervisor.launcher.pid, SIGCONT)
            try harness.shutDown()
        }

        @Test func theLauncherIsStartedAgainWhenItDies() throws {
            let harness = try Harness()
            kill(harness.supervisor.launcher.pid, SIGKILL)
            try harness.turn(for: .milliseconds(100))
            let process = try harness.run(shell("echo again"))
            #expect(process.stdoutBytes == 6)
            try harness.shutDown()
        }
    }
}

extension Harness {
    func list(_ filter: ListFilter) throws -> ([UInt64], Bool) {
        let call = newCall()
        supervisor.list(filter, by: call)
        guard case .list(let entries, let more) = try answer(to: call) else { throw TimedOut() }
        return (entries.map(\.serial), more)
    }
}
