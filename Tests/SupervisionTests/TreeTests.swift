// Whole trees: nothing that descends from a command outlives its stop, whatever it did to
// get away. Each test runs with a cgroup for each tree and with marks.

import Glibc
import LinuxIO
import ProcgateV1
import Testing

@testable import Supervision

extension WithProcesses {
    @Suite struct Trees {
        /// A descendant that left the session, the group, its parent and the environment, and
        /// does not mind TERM.
        static let escaped =
            "( setsid env -i sh -c \"trap '' TERM; while :; do sleep 0.05; done\" "
            + "</dev/null >/dev/null 2>&1 & ) ; "

        @Test(arguments: [true, false])
        func aStopTakesEveryDescendant(usesCgroups: Bool) throws {
            let harness = try Harness { $0.usesCgroups = usesCgroups }
            let marker = "marker\(UInt32.random(in: 0..<UInt32.max))"
            let started = try harness.start(
                shell(
                    Self.escaped + "( setsid sleep 3\(getpid()) & ); echo up; sleep 60; : \(marker)"
                ))
            try harness.waitForOutput(of: started.process.id)
            let tree = try #require(harness.supervisor.processes[started.serial]?.tree)
            var members: [pid_t] = []
            // The shell, its sleep, the one that escaped and its sleep, and the other sleep.
            while members.count < 5 {
                try harness.turn(timeout: .milliseconds(5))
                members = harness.supervisor.forest.members(of: tree)
            }
            let process = try harness.process {
                harness.supervisor.stop(started.process.id, grace: .milliseconds(50), by: $0)
            }
            #expect(process.status == .killed)
            #expect(process.terminationReason == .stopped)
            // Those that ignore TERM are gone, too.
            #expect(!process.descendantsAlive)
            for pid in members { #expect(ProcessTable.entry(pid).map(\.isZombie) ?? true) }
            try harness.shutDown()
        }

        @Test(arguments: [true, false])
        func processesThatForkAwayAreKilledWhole(usesCgroups: Bool) throws {
            let harness = try Harness { $0.usesCgroups = usesCgroups }
            // Each one ends when it has forked the next: forty at a time, always others.
            let comets =
                "f() { sleep 0.02; f & }; for i in $(seq 40); do f & done; echo up; sleep 60"
            let started = try harness.start(shell(comets))
            try harness.waitForOutput(of: started.process.id)
            try harness.turn(for: .milliseconds(120))
            let process = try harness.process {
                harness.supervisor.stop(started.process.id, grace: .zero, by: $0)
            }
            #expect(process.outcome == .signal(9))
            #expect(harness.supervisor.lingering.isEmpty)
            try harness.shutDown()
        }

        @Test(arguments: [true, false])
        func aTimeoutGivesTermThenKillToTheTree(usesCgroups: Bool) throws {
            let harness = try Harness { $0.usesCgroups = usesCgroups }
            let process = try harness.run(
                shell("trap 'echo term' TERM; " + Self.escaped + "while :; do sleep 0.02; done") {
                    $0.timeoutMs = 300
                    $0.graceMs = 200
                })
            #expect(process.status == .timedOut)
            #expect(process.terminationReason == .timeout)
            #expect(process.outcome == .signal(9))
            #expect(try harness.bytes(of: process.id).starts(with: "term\n".utf8))
            #expect(process.endedAt - process.startedAt >= 500)
            try harness.shutDown()
        }

        @Test func aDescendantThatPrintsWithoutEndIsNotListenedToWithoutEnd() throws {
            let harness = try Harness()
            let process = try harness.run(shell("yes & exit 3"))
            #expect(process.outcome == .exitCode(3))
            try harness.shutDown()
        }

        @Test(arguments: [true, false])
        func whatCameWhileTheLoopStoodStillIsRead(usesCgroups: Bool) throws {
            let harness = try Harness { $0.usesCgroups = usesCgroups }
            let started = try harness.start(
                shell("(sleep 0.1; echo late; sleep 30) & echo early"))
            try harness.waitForOutput(of: started.process.id)
            // Longer than pipes may be quiet.
            usleep(500_000)
            let process = try harness.end(of: started.process.id)
            #expect(process.stdoutBytes == 11)
            try harness.shutDown()
        }

        @Test(arguments: [true, false])
        func aDescendantThatKeepsThePipesIsDrainedAndLivesOn(usesCgroups: Bool) throws {
            let harness = try Harness { $0.usesCgroups = usesCgroups }
            let process = try harness.run(shell("(sleep 0.1; echo late; sleep 30) & echo early"))
            #expect(try harness.bytes(of: process.id) == Array("early\nlate\n".utf8))
            #expect(process.status == .exited)
            #expect(process.descendantsAlive)
            #expect(process.endedAt - process.startedAt >= 300)
            #expect(process.endedAt - process.startedAt < 30_000)
            #expect(harness.supervisor.lingering.count == 1)
            try harness.shutDown()
        }

        @Test(arguments: [true, false])
        func descendantsAreKilledWithTheCommandWhereThatIsAskedFor(usesCgroups: Bool) throws {
            let harness = try Harness { $0.usesCgroups = usesCgroups }
            let process = try harness.run(
                shell(Self.escaped + "sleep 30 & exit 4") { $0.killDescendants = true })
            #expect(process.outcome == .exitCode(4))
            #expect(process.terminationReason == .exited)
            #expect(!process.descendantsAlive)
            #expect(process.endedAt - process.startedAt < 30_000)
            #expect(harness.supervisor.lingering.isEmpty)
            try harness.shutDown()
        }

        @Test(arguments: [true, false])
        func aSignalReachesItsScopeAndNobodyElse(usesCgroups: Bool) throws {
            let harness = try Harness { $0.usesCgroups = usesCgroups }
            let child = "trap 'echo %; exit' USR1; echo up; while :; do sleep 0.01; done"
            let command =
                "trap 'echo leader' USR1; sh -c \"\(child.replacing("%", "member"))\" & "
                + "setsid sh -c \"\(child.replacing("%", "other"))\" & "
                + "wait; wait; wait; sleep 60"
            for (scope, expected) in [
                (SignalScope.leader, ["leader"]), (.unspecified, ["leader", "member"]),
                (.tree, ["leader", "member", "other"]),
            ] {
                let started = try harness.start(shell(command))
                try harness.waitForOutput(of: started.process.id, count: 6)
                _ = try harness.process {
                    harness.supervisor.signal(started.process.id, "USR1", scope, by: $0)
                }
                let count = expected.reduce(6) { $0 + UInt64($1.utf8.count) + 1 }
                try harness.waitForOutput(of: started.process.id, count: count)
                try harness.turn(for: .milliseconds(50))
                let words = String(
                    decoding: try harness.bytes(of: started.process.id), as: UTF8.self
                ).split(separator: "\n").map(String.init)
                #expect(Array(words.dropFirst(2)).sorted() == expected, "\(scope)")
                _ = try harness.process {
                    harness.supervisor.stop(started.process.id, grace: .zero, by: $0)
                }
            }
            try harness.shutDown()
        }

        @Test func whoHasLeftEveryTreeGoesWithTheSupervisor() throws {
            let harness = try Harness { $0.usesCgroups = false }
            let escape =
                "(setsid prlimit --msgqueue=4096:4096 sh -c 'echo $$; exec sleep 300' "
                + "</dev/null 2>/dev/null &); sleep 0.5"
            let (_, text) = try harness.output(of: shell(escape))
            let pid = try #require(text.split(separator: "\n").first.flatMap { pid_t($0) })
            #expect(ProcessTable.entry(pid).map { !$0.isZombie } == true)
            let call = harness.newCall()
            harness.supervisor.shutDown(grace: .zero, by: call)
            _ = try harness.answer(to: call)
            #expect(ProcessTable.entry(pid).map(\.isZombie) ?? true)
        }

        @Test func aCgroupThatWasChangedIsNotUsedAgain() throws {
            let harness = try Harness()
            try #require(harness.supervisor.forest.usesCgroups)
            let started = try harness.start(shell("sleep 0.2"))
            let tree = try #require(harness.supervisor.processes[started.serial]?.tree)
            guard case .cgroup(let leaf) = tree.bond else { throw Harness.TimedOut() }
            #expect(leaf.isClean)
            #expect(mkdirat(leaf.directory.raw, "nested", 0o755) == 0)
            #expect(!leaf.isClean)
            _ = try harness.end(of: started.process.id)
            #expect(faccessat(leaf.directory.raw, "nested", F_OK, 0) != 0)
            #expect(try harness.run(shell("echo x")).stdoutBytes == 2)
            try harness.shutDown()
        }

        @Test func whatAnEarlierSupervisorLeftIsClearedAway() throws {
            let harness = try Harness()
            try #require(harness.supervisor.forest.usesCgroups)
            let started = try harness.start(shell("sleep 300"))
            let pid = pid_t(started.process.pid)
            // A second one on the same directory: the first is taken for dead.
            _ = CgroupForest(name: "procgate-" + stableHash(of: harness.directory))
            #expect(ProcessTable.entry(pid).map(\.isZombie) ?? true)
            let process = try harness.end(of: started.process.id)
            #expect(process.outcome == .signal(9))
            try harness.shutDown()
        }

        @Test(arguments: [true, false])
        func fiveHundredCommandsLeaveNothingBehind(usesCgroups: Bool) throws {
            let harness = try Harness { $0.usesCgroups = usesCgroups }
            for _ in 0..<20 { _ = try harness.run(shell("echo x")) }
            harness.supervisor.reapOrphans()
            let before = try harness.footprint()
            for round in 0..<500 {
                let process = try harness.run(
                    shell(round % 5 == 0 ? "(sleep 0.001 & ) ; echo x" : "echo x"))
                #expect(process.stdoutBytes == 2)
            }
            try harness.turn(for: .milliseconds(50))
            harness.supervisor.reapOrphans()
            let after = try harness.footprint()
            #expect(after.descriptors == before.descriptors)
            // What earlier tests left may have gone meanwhile.
            #expect(after.children <= before.children)
            try harness.shutDown()
        }
    }
}

struct Footprint: Equatable {
    var descriptors: Int
    var children: Int
}

extension Harness {
    func waitForOutput(of id: String, count: UInt64 = 1) throws {
        let deadline = Instant.now() + .seconds(20)
        while Instant.now() < deadline {
            let process = try process { supervisor.get(id, by: $0) }
            if process.stdoutBytes >= count { return }
            try turn(timeout: .milliseconds(5))
        }
        Issue.record("no output")
    }

    /// Descriptors of leaves in the pool are not counted: it may have grown.
    func footprint() throws -> Footprint {
        var descriptors = 0
        let listing = try #require(opendir("/proc/self/fd"))
        defer { closedir(listing) }
        while let entry = readdir(listing) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            var target = [CChar](repeating: 0, count: 512)
            let size = readlink("/proc/self/fd/" + name, &target, target.count - 1)
            guard size > 0 else { continue }
            let path = String(
                decoding: target.prefix(size).map { UInt8(bitPattern: $0) }, as: UTF8.self)
            if !path.contains("/procgate-") { descriptors += 1 }
        }
        return Footprint(descriptors: descriptors, children: ProcessTable.ownChildren().count)
    }
}

extension String {
    func replacing(_ text: Character, _ replacement: String) -> String {
        reduce(into: "") { $0 += $1 == text ? replacement : String($1) }
    }
}
