// procgate supervise: the supervisor's command line.

import ArgumentParser
import Glibc
import LinuxIO
import SupervisorLink

struct Supervise: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run a supervisor by itself, ahead of its gateway.",
        discussion: """
            `procgate serve` starts one where none answers in its state directory. Started by \
            itself it can outlive any gateway: it holds the processes and their output.
            """)

    @OptionGroup
    var processes: ProcessOptions

    /// Given by a gateway, which says itself what is wrong: where it cannot supervise, that is
    /// printed on standard output.
    @Flag(help: .hidden)
    var reportFailure = false

    func run() throws {
        MemoryPolicy.apply()
        do {
            throw ExitCode(try supervise())
        } catch let failure as Failure where reportFailure {
            report(.failed(printable(failure.message)))
            throw ExitCode(failure.status.rawValue)
        }
    }

    /// - Returns: The exit status.
    private func supervise() throws -> Int32 {
        var configuration = try processes.configuration()
        configuration.isOfGateway = reportFailure
        try RuntimeDirectory.make(configuration.stateDirectory)
        do throws(SupervisorStartError) {
            return try runSupervisor(configuration) {
                let line = SupervisorReport.listening.line(
                    stateDirectory: configuration.stateDirectory)
                printIfRead(line)
                // Whoever started it has read that line; nothing else is ever printed.
                let null = open("/dev/null", O_WRONLY | O_CLOEXEC)
                if null >= 0 {
                    dup2(null, STDOUT_FILENO)
                    close(null)
                }
                MemoryPolicy.letGoOfStartUp(isAlone: true)
            }
        } catch {
            switch error {
            case .alreadyRunning where reportFailure:
                report(.alreadyRunning)
                throw ExitCode.failure
            case .unsafeDirectory(let text):
                throw Failure("\(prefix)\(text); --state-directory names another")
            case .alreadyRunning, .system: throw Failure("\(prefix)\(error)")
            }
        }
    }

    /// A report says so itself.
    private var prefix: String { reportFailure ? "" : "cannot supervise: " }

    private func report(_ report: SupervisorReport) {
        printIfRead(report.line(stateDirectory: ""))
    }

    /// The processes do not wait for a reader: after a second the line is given up.
    private func printIfRead(_ line: String) {
        var room = pollfd(fd: STDOUT_FILENO, events: Int16(POLLOUT), revents: 0)
        guard poll(&room, 1, Self.readMilliseconds) > 0 else { return }
        standardOutput(line)
    }

    private static let readMilliseconds: Int32 = 1_000
}
