// The options that concern processes: of `supervise`, and of `serve`, which hands them
// to the supervisor that it starts.

import ArgumentParser
import Supervision

struct ProcessOptions: ParsableArguments {
    @Option(help: "The supervisor's socket and output. (default: RUNTIME/state)")
    var stateDirectory: String?

    @Option(
        help: ArgumentHelp(
            "Who runs what names nobody. (default: the gateway's own user)", valueName: "user"))
    var defaultUser: String?

    @Option(help: "For commands without arguments.")
    var shell = "/bin/sh"

    @Option(help: "Processes at once.")
    var maxRunning: UInt32 = 1024

    @Option(help: "Processes that wait for a place.")
    var maxQueued: UInt32 = 4096

    @Option(help: "Between TERM and KILL.")
    var gracePeriod = DurationArgument(milliseconds: 5_000)

    @Option(help: "How long a keyed Exec waits for its caller to come back.")
    var resumeWindow = DurationArgument(milliseconds: 10_000)

    @Option(help: "Output kept for each process.")
    var retainBytes = SizeArgument(bytes: 8 << 20)

    @Option(help: "How long an ended process is remembered.")
    var retainTime = DurationArgument(milliseconds: 600_000)

    @Option(help: "Of all retained output together; the oldest ended give way first.")
    var maxOutputMemory = SizeArgument(bytes: 1 << 30)

    func validate() throws {
        guard shell.hasPrefix("/") else {
            throw ValidationError("--shell is a path: /bin/sh, not \(shell)")
        }
        guard maxRunning > 0 else { throw ValidationError("--max-running is at least 1") }
        guard maxOutputMemory.bytes >= 1 << 20 else {
            throw ValidationError("--max-output-memory is at least 1MiB")
        }
    }

    /// The state directory, or the default one.
    func resolvedStateDirectory() throws(Failure) -> String {
        if let stateDirectory { return absolute(stateDirectory) }
        return try RuntimeDirectory.path() + "/state"
    }

    func configuration() throws(Failure) -> SupervisorConfiguration {
        var configuration = SupervisorConfiguration(stateDirectory: try resolvedStateDirectory())
        configuration.shell = shell
        configuration.defaultUser = defaultUser ?? ""
        configuration.maxRunning = Int(maxRunning)
        configuration.maxQueued = Int(maxQueued)
        configuration.gracePeriod = gracePeriod.duration
        configuration.resumeWindow = resumeWindow.duration
        configuration.retainBytes = Int(clamping: retainBytes.bytes)
        configuration.retainTime = retainTime.duration
        configuration.maxOutputMemory = Int(clamping: maxOutputMemory.bytes)
        configuration.version = procgateVersion
        return configuration
    }

    /// What `serve` starts its supervisor with.
    func superviseArguments(stateDirectory: String) -> [String] {
        var arguments = [
            "supervise", "--state-directory", stateDirectory, "--shell", shell,
            "--max-running", String(maxRunning), "--max-queued", String(maxQueued),
            "--grace-period", gracePeriod.description,
            "--resume-window", resumeWindow.description,
            "--retain-bytes", retainBytes.description, "--retain-time", retainTime.description,
            "--max-output-memory", maxOutputMemory.description,
        ]
        if let defaultUser { arguments += ["--default-user", defaultUser] }
        return arguments
    }
}
