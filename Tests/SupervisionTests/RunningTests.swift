// Commands that run: how they are found, what they see, how they end.

import CLinux
import Glibc
import LinuxIO
import OutputLog
import ProcgateV1
import Testing

@testable import Supervision

extension WithProcesses {
    @Suite struct Running {
        @Test func aCommandsOutputAndExitCodeAreKept() throws {
            let harness = try Harness()
            let (process, text) = try harness.output(of: shell("echo one; echo two >&2; exit 3"))
            #expect(text == "one\n")
            #expect(try harness.bytes(of: process.id, .stderr) == Array("two\n".utf8))
            #expect(process.status == .exited)
            #expect(process.outcome == .exitCode(3))
            #expect(process.terminationReason == .exited)
            #expect(process.stdoutBytes == 4)
            #expect(process.stderrBytes == 4)
            #expect(process.startedAt >= process.createdAt)
            #expect(process.endedAt >= process.startedAt)
            #expect(process.expiresAt > process.endedAt)
            #expect(!process.descendantsAlive)
            #expect(process.usage?.peakMemoryBytes ?? 0 > 0)
            try harness.shutDown()
        }

        @Test func aCommandThatIsKilledSaysByWhat() throws {
            let harness = try Harness()
            let process = try harness.run(shell("kill -KILL $$"))
            #expect(process.status == .killed)
            #expect(process.outcome == .signal(9))
            #expect(process.signalName == "SIGKILL")
            #expect(process.terminationReason == .signalled)
            try harness.shutDown()
        }

        @Test func argumentsAreNotForTheShell() throws {
            let harness = try Harness()
            let (_, text) = try harness.output(
                of: ProcessSpec.with {
                    $0.command = "printf"
                    $0.args = ["%s|", "$HOME", "a b", ""]
                })
            #expect(text == "$HOME|a b||")
            let (_, positional) = try harness.output(
                of: shell("echo $1-$2") {
                    $0.shell = .sh
                    $0.args = ["x", "y"]
                })
            #expect(positional == "x-y\n")
            let (_, option) = try harness.output(of: shell("-n() { echo dash; }; -n"))
            #expect(option.isEmpty || option == "dash\n")
            try harness.shutDown()
        }

        @Test func aCommandThatIsMissingFailsAndSaysSo() throws {
            let harness = try Harness()
            for (spec, text) in [
                (
                    program("no-such-program"),
                    "cannot execute 'no-such-program': No such file or directory"
                ),
                (program("/etc/passwd"), "cannot execute '/etc/passwd': Permission denied"),
            ] {
                let answer = try harness.start(spec)
                #expect(answer.ended)
                #expect(answer.process.status == .failed)
                #expect(answer.process.outcome == .error(text))
                #expect(answer.process.terminationReason == .startFailed)
            }
            try harness.shutDown()
        }

        @Test func aScriptWithoutAFirstLineIsRunByTheShell() throws {
            let harness = try Harness()
            let path = "/tmp/procgate-script-\(getpid())"
            SmallFile.create("echo script $1\n", at: path)
            chmod(path, 0o755)
            defer { unlink(path) }
            let (_, text) = try harness.output(of: program(path, "works"))
            #expect(text == "script works\n")
            try harness.shutDown()
        }

        @Test func theEnvironmentIsTheUsersAndNothingElse() throws {
            setenv("PROCGATE_SECRET", "hidden", 1)
            let harness = try Harness()
            let (_, text) = try harness.output(
                of: program("/usr/bin/env") { $0.env = ["EXTRA": "1", "LANG": "de_DE"] })
            let names = Set(text.split(separator: "\n").map { $0.split(separator: "=")[0] })
            #expect(names == ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "EXTRA"])
            #expect(text.contains("LANG=de_DE\n"))
            let (_, alone) = try harness.output(
                of: program("/usr/bin/env") {
                    $0.env = ["A": "b"]
                    $0.clearEnv = true
                })
            #expect(alone == "A=b\n")
            try harness.shutDown()
        }

        @Test func theDirectoryIsTheHomeOrWhatWasAskedFor() throws {
            let harness = try Harness()
            #expect(try harness.output(of: shell("pwd")).1 == "/root\n")
            #expect(try harness.output(of: shell("pwd") { $0.cwd = "/usr" }).1 == "/usr\n")
            #expect(try harness.output(of: shell("pwd") { $0.cwd = ".." }).1 == "/\n")
            let (process, text) = try harness.output(of: shell("pwd") { $0.runAs = "nobody" })
            #expect(text == "/\n")
            #expect(process.cwd == "/")
            try harness.shutDown()
        }

        @Test func anotherUserComesWithTheirGroupsAndCannotComeBack() throws {
            let harness = try Harness()
            let (process, text) = try harness.output(
                of: shell("id -u; id -g; id -G; grep NoNewPrivs /proc/self/status") {
                    $0.runAs = "nobody"
                })
            #expect(text == "65534\n65534\n65534\nNoNewPrivs:\t1\n")
            #expect(process.runAs == "nobody")
            let (_, number) = try harness.output(of: shell("id -u; id -g") { $0.runAs = "54321" })
            #expect(number == "54321\n54321\n")
            try harness.shutDown()
        }

        @Test func aChildStartsWithFreshSignalsAndDescriptors() throws {
            let harness = try Harness()
            let (_, text) = try harness.output(
                of: shell("grep -E 'Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd; ulimit -n"))
            let lines = text.split(separator: "\n").map(String.init)
            // The listing's own descriptor is the fourth.
            #expect(
                lines.dropLast() == [
                    "SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000", "0", "1", "2", "3",
                ])
            try harness.shutDown()
        }

        @Test func limitsAreSetAndSaidToBe() throws {
            let harness = try Harness()
            try #require(!harness.supervisor.forest.limitsWholeTrees)
            let (process, text) = try harness.output(
                of: shell("ulimit -v; ulimit -p") {
                    $0.runAs = "54321"
                    $0.limits = .with {
                        $0.memoryBytes = 100 << 20
                        $0.maxProcesses = 7
                    }
                })
            #expect(text == "102400\n7\n")
            #expect(process.limitsEnforced == .rlimit)
            let processor = try harness.run(
                shell("true") { $0.limits = .with { $0.cpuMillis = 500 } })
            #expect(processor.limitsEnforced == LimitsEnforcement.none)
            #expect(try harness.run(shell("true")).limitsEnforced == .unspecified)
            try harness.shutDown()
        }

        @Test func aLimitBeyondTheHostsIsTheHosts() {
            let hard = clinux_limit(CLINUX_LIMIT_PROCESSES).hard
            let limit = clinux_launch_limit.same(CLINUX_LIMIT_PROCESSES, .max)
            #expect(limit.soft == hard)
            #expect(limit.hard == hard)
            #expect(clinux_launch_limit.same(CLINUX_LIMIT_PROCESSES, 7).soft == 7)
        }

        @Test func everyCommandLeadsASessionOfItsOwn() throws {
            let harness = try Harness()
            let (process, text) = try harness.output(of: shell("ps -o pid=,pgid=,sid= -p $$"))
            let numbers = text.split(whereSeparator: \.isWhitespace).map { UInt32($0) }
            #expect(numbers == [process.pid, process.pid, process.pid])
            try harness.shutDown()
        }

        @Test func whatCannotBeRunIsRefusedBeforeAFork() throws {
            let harness = try Harness { $0.maxRunning = 4 }
            #expect(try harness.refusal(of: ProcessSpec()) == .commandRequired)
            #expect(try harness.refusal(of: program("a\0b")) == .commandRequired)
            let long = String(repeating: "x", count: 140_000)
            #expect(try harness.refusal(of: program("echo", long)) == .argumentsTooLong)
            let many = shell("true") {
                $0.args = .init(repeating: String(long.prefix(100_000)), count: 80)
            }
            #expect(try harness.refusal(of: many) == .argumentsTooLong)
            let labelled = shell("true") { $0.labels = ["long": long, "longer": long] }
            #expect(try harness.refusal(of: labelled) == .labelsInvalid)
            for cwd in ["/no/such", "/etc/passwd", "no-such", "\0"] {
                #expect(try harness.refusal(of: shell("true") { $0.cwd = cwd }) == .cwdInvalid)
            }
            let private_ = shell("true") {
                $0.cwd = "/root"
                $0.runAs = "nobody"
            }
            #expect(try harness.refusal(of: private_) == .cwdInvalid)
            for name in ["", "A=B", "A\0"] {
                #expect(try harness.refusal(of: shell("true") { $0.env[name] = "" }) == .envInvalid)
            }
            #expect(try harness.refusal(of: shell("true") { $0.env["A"] = "\0" }) == .envInvalid)
            #expect(
                try harness.refusal(of: shell("true") { $0.runAs = "no-such-user" }) == .userUnknown
            )
            for (columns, rows) in [(0, 24), (80, 0), (65_536, 24)] as [(UInt32, UInt32)] {
                let spec = shell("true") { spec in
                    spec.terminal = .with {
                        $0.columns = columns
                        $0.rows = rows
                    }
                }
                #expect(try harness.refusal(of: spec) == .terminalInvalid)
            }
            try harness.shutDown()
        }
    }
}

extension SmallFile {
    static func create(_ text: String, at path: String) {
        close(open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600))
        write(text, to: path)
    }
}
