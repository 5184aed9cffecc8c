// Bytes in and bytes out: stdin, terminals, capture, and who is held back.

import Glibc
import LinuxIO
import OutputLog
import ProcgateV1
import Testing

@testable import Supervision

extension WithProcesses {
    @Suite struct InputAndOutput {
        @Test func everyByteIsCapturedInOrder() throws {
            let harness = try Harness { $0.retainBytes = 64 << 20 }
            // 32 MiB that no pipe holds, of numbered lines.
            let process = try harness.run(program("seq", "-w", "4000000"))
            #expect(process.stdoutBytes == 32_000_000)
            let bytes = try harness.bytes(of: process.id)
            var expected: [UInt8] = []
            expected.reserveCapacity(32_000_000)
            for number in 1...4_000_000 {
                let digits = String(number)
                expected += repeatElement(0x30, count: 7 - digits.utf8.count)
                expected += digits.utf8
                expected.append(0x0A)
            }
            #expect(bytes == expected)
            try harness.shutDown()
        }

        @Test func oldOutputGivesWayAndTheNewestStays() throws {
            let harness = try Harness()
            let process = try harness.run(
                program("seq", "-w", "4000000") { $0.output = .with { $0.retainBytes = 100_000 } })
            #expect(process.stdoutBytes == 32_000_000)
            #expect(process.firstRetainedSeq > 1)
            let bytes = try harness.bytes(of: process.id)
            #expect(bytes.count <= 100_000)
            #expect(bytes.count >= 50_000)
            #expect(String(decoding: bytes.suffix(8), as: UTF8.self) == "4000000\n")
            try harness.shutDown()
        }

        @Test func aHeldProcessWaitsForItsReader() throws {
            let harness = try Harness { $0.retainBytes = 64 << 10 }
            let (owner, answer) = try harness.tryStart(program("seq", "-w", "4000000")) {
                $0.held = true
                $0.policy = .kill
                $0.follow = true
            }
            guard case .started(let started) = answer else {
                Issue.record("answered \(answer)")
                return
            }
            let serial = started.serial
            try harness.waitForOutput(of: started.process.id, count: 1 << 20)
            try harness.turn(for: .milliseconds(50))
            let stuck = try harness.process { harness.supervisor.get(started.process.id, by: $0) }
            #expect(stuck.status == .running)
            #expect(stuck.stdoutBytes >= 1 << 20)
            #expect(stuck.stdoutBytes < 3 << 20)
            #expect(stuck.firstRetainedSeq == 1)
            // From now on every record is taken as it comes.
            harness.supervisor.release(serial, through: stuck.lastSeq, by: owner)
            var ended: Process?
            while ended == nil {
                try harness.turn()
                for notice in harness.drainNotices() {
                    switch notice {
                    case .appended(serial, let commit):
                        harness.supervisor.release(serial, through: commit.seq, by: owner)
                    case .retired(serial, let ordinal):
                        harness.supervisor.acknowledgeRetired(
                            serial, ordinal: ordinal, by: Harness.link)
                    case .ended(serial, let process): ended = process
                    default: break
                    }
                }
            }
            #expect(ended?.stdoutBytes == 32_000_000)
            #expect(ended?.status == .exited)
            #expect(harness.supervisor.arena.bytesInUse < 8 << 20)
            try harness.shutDown()
        }

        @Test func aProcessThatHoldsWhenFullIsNotCutShort() throws {
            let harness = try Harness()
            let spec = program("head", "-c", "1000000", "/dev/zero") {
                $0.output = .with {
                    $0.retainBytes = 100_000
                    $0.holdWhenFull = true
                }
            }
            let started = try harness.start(spec)
            try harness.waitForOutput(of: started.process.id, count: 100_000)
            try harness.turn(for: .milliseconds(50))
            var process = try harness.process { harness.supervisor.get(started.process.id, by: $0) }
            #expect(process.status == .running)
            #expect(process.stdoutBytes < 300_000)
            while process.status == .running {
                harness.supervisor.release(
                    started.serial, through: process.lastSeq,
                    by: CallID(link: Harness.link, call: 0))
                try harness.turn(timeout: .milliseconds(5))
                process = try harness.process { harness.supervisor.get(started.process.id, by: $0) }
            }
            #expect(process.stdoutBytes == 1_000_000)
            try harness.shutDown()
        }

        @Test func heldProcessesLeaveRoomForOthers() throws {
            let harness = try Harness { $0.maxOutputMemory = 8 << 20 }
            for _ in 0..<24 {
                _ = try harness.start(program("cat", "/dev/zero")) {
                    $0.held = true
                    $0.policy = .kill
                }
            }
            // Each by itself might hold 4 MiB.
            try harness.turn(for: .seconds(1))
            #expect(harness.supervisor.arena.bytesInUse < 8 << 20 + 24 * (1 << 20))
            let loud = try harness.run(program("head", "-c", "20000000", "/dev/zero"))
            #expect(loud.stdoutBytes == 20_000_000)
            try harness.shutDown()
        }

        @Test func bytesGivenWithTheStartAreTheWholeInput() throws {
            let harness = try Harness()
            for count in [0, 5, 300_000] {
                let input = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31) }
                let process = try harness.run(program("cat")) { $0.stdin = .bytes(input) }
                #expect(try harness.bytes(of: process.id) == input)
                #expect(process.stdinBytes == UInt64(count))
                #expect(process.stdinClosed)
            }
            try harness.shutDown()
        }

        @Test func aWriteWaitsForTheReaderAndCanBeRepeated() throws {
            let harness = try Harness()
            let started = try harness.start(
                shell("sleep 0.3; head -c 150000 | wc -c; cat; sleep 0.5")
            ) { $0.stdin = .pipe }
            let id = started.process.id
            let first = harness.newCall()
            harness.supervisor.write(.of(count: 200_000), to: id, by: first)
            try harness.turn(for: .milliseconds(100))
            let early = try harness.process { harness.supervisor.get(id, by: $0) }
            #expect(early.stdinBytes < 200_000)
            #expect(try harness.stdinAnswer(to: first) == 200_000)
            // A repeat is skipped; a gap is refused; an overlap adds its rest.
            #expect(try harness.write(.of(count: 200_000, offset: 0), to: id) == 200_000)
            #expect(
                try harness.failure {
                    harness.supervisor.write(.of(count: 1, offset: 200_001), to: id, by: $0)
                } == .stdinGap)
            #expect(
                try harness.write(.of(count: 10, offset: 199_995, eof: true), to: id) == 200_005)
            #expect(
                try harness.write(.of(count: 10, offset: 199_995, eof: true), to: id) == 200_005)
            #expect(
                try harness.failure {
                    harness.supervisor.write(.of(count: 1), to: id, by: $0)
                } == .stdinClosed)
            let process = try harness.end(of: id)
            #expect(process.stdoutBytes == 50_005 + 7)
            #expect(
                try harness.failure {
                    harness.supervisor.write(.of(count: 1), to: id, by: $0)
                } == .processNotRunning)
            try harness.shutDown()
        }

        @Test func aWriteToAReaderThatWentIsRefused() throws {
            let harness = try Harness()
            let started = try harness.start(shell("exec 0<&-; echo up; sleep 60")) {
                $0.stdin = .pipe
            }
            let id = started.process.id
            try harness.waitForOutput(of: id)
            #expect(
                try harness.failure {
                    harness.supervisor.write(.of(count: 1), to: id, by: $0)
                } == .stdinClosed)
            // So is one that waits.
            let other = try harness.start(
                shell("echo up; head -c 1 >/dev/null; exec 0<&-; sleep 60")
            ) {
                $0.stdin = .pipe
            }
            #expect(
                try harness.failure {
                    harness.supervisor.write(.of(count: 1_000_000), to: other.process.id, by: $0)
                } == .stdinClosed)
            try harness.shutDown()
        }

        @Test func anAbandonedWriteIsDropped() throws {
            let harness = try Harness()
            let started = try harness.start(shell("echo up; sleep 0.3; cat | wc -c")) {
                $0.stdin = .pipe
            }
            let id = started.process.id
            let call = harness.newCall()
            harness.supervisor.write(.of(count: 200_000), to: id, by: call)
            try harness.waitForOutput(of: id)
            harness.supervisor.abandon(call, reason: .lost)
            let now = try harness.process { harness.supervisor.get(id, by: $0) }
            let total = try harness.write(
                .of(count: 200_000 - Int(now.stdinBytes), offset: now.stdinBytes, eof: true), to: id
            )
            #expect(total == 200_000)
            let process = try harness.end(of: id)
            #expect(try harness.bytes(of: process.id).suffix(7) == Array("200000\n".utf8)[...])
            try harness.shutDown()
        }

        @Test func aTerminalIsOneAndIsResized() throws {
            let harness = try Harness()
            let spec = shell("tty; stty size; echo $TERM; read line; stty size; echo got $line") {
                $0.terminal = .with {
                    $0.columns = 91
                    $0.rows = 17
                }
            }
            let started = try harness.start(spec) { $0.stdin = .pipe }
            let id = started.process.id
            try harness.waitForOutput(of: id, count: 30)
            let call = harness.newCall()
            harness.supervisor.resize(id, to: .with { ($0.columns, $0.rows) = (100, 40) }, by: call)
            guard case .done = try harness.answer(to: call) else { throw Harness.TimedOut() }
            _ = try harness.write(.of(Array("hello\n".utf8)), to: id)
            let process = try harness.end(of: id)
            let text = String(decoding: try harness.bytes(of: id), as: UTF8.self)
            let lines = text.split(separator: "\r\n").map(String.init)
            #expect(lines[0].hasPrefix("/dev/pts/"))
            #expect(
                Array(lines[1...]) == ["17 91", "xterm-256color", "hello", "40 100", "got hello"])
            #expect(process.status == .exited)
            #expect(process.stderrBytes == 0)
            #expect(
                try harness.failure {
                    harness.supervisor.resize(
                        id, to: .with { ($0.columns, $0.rows) = (1, 1) }, by: $0)
                } == .processNotRunning)
            let plain = try harness.start(shell("sleep 60"))
            #expect(
                try harness.failure {
                    harness.supervisor.resize(
                        plain.process.id, to: .with { ($0.columns, $0.rows) = (1, 1) }, by: $0)
                } == .noTerminal)
            try harness.shutDown()
        }

        @Test func aTerminalsEndOfInputIsACharacter() throws {
            let harness = try Harness()
            let spec = program("cat") {
                $0.terminal = .with { ($0.columns, $0.rows) = (80, 24) }
                $0.runAs = "nobody"
            }
            let started = try harness.start(spec) { $0.stdin = .pipe }
            let id = started.process.id
            var attached = StdinWrite.of(Array("x\n".utf8))
            attached.eof = true
            attached.refusesTerminalEOF = true
            #expect(
                try harness.failure { harness.supervisor.write(attached, to: id, by: $0) }
                    == .stdinClosed)
            attached.refusesTerminalEOF = false
            _ = try harness.write(attached, to: id)
            let process = try harness.end(of: id)
            let text = String(decoding: try harness.bytes(of: id), as: UTF8.self)
            #expect(process.outcome == .exitCode(0), "\(process) \(text)")
            #expect(process.stdinClosed)
            try harness.shutDown()
        }

        @Test func manyStreamsAreReadSideBySide() throws {
            let harness = try Harness()
            let loud = try (0..<4).map { _ in try harness.start(shell("exec cat /dev/zero")) }
            for started in loud { try harness.waitForOutput(of: started.process.id) }
            let process = try harness.run(shell("echo quiet"))
            #expect(process.stdoutBytes == 6)
            for started in loud {
                let process = try harness.process {
                    harness.supervisor.get(started.process.id, by: $0)
                }
                #expect(process.stdoutBytes > 0)
            }
            try harness.shutDown()
        }
    }
}

extension StdinWrite {
    static func of(_ data: [UInt8]) -> StdinWrite {
        var write = StdinWrite()
        write.data = data
        return write
    }

    static func of(count: Int, offset: UInt64? = nil, eof: Bool = false) -> StdinWrite {
        var write = of([UInt8](repeating: 0x78, count: count))
        write.offset = offset
        write.eof = eof
        return write
    }
}

extension Harness {
    func stdinAnswer(to call: CallID) throws -> UInt64 {
        guard case .stdin(let bytes) = try answer(to: call) else { throw TimedOut() }
        return bytes
    }

    func write(_ write: StdinWrite, to id: String) throws -> UInt64 {
        let call = newCall()
        supervisor.write(write, to: id, by: call)
        return try stdinAnswer(to: call)
    }
}
