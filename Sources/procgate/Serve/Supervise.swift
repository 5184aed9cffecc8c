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

    func run() throws {
        MemoryPolicy.apply()
        let configuration = try processes.configuration()
        try RuntimeDirectory.make(configuration.stateDirectory)
        do {
            let status = try runSupervisor(configuration) {
                standardOutput("supervising in \(configuration.stateDirectory)")
                // Whoever started it has read that line; nothing else is ever printed.
                let null = open("/dev/null", O_WRONLY | O_CLOEXEC)
                if null >= 0 {
                    dup2(null, STDOUT_FILENO)
                    close(null)
                }
                MemoryPolicy.letGoOfStartUp()
            }
            throw ExitCode(status)
        } catch let error as SupervisorStartError {
            throw Failure("cannot supervise: \(error)")
        }
    }
}
