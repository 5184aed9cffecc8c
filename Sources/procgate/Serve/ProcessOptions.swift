// The options that concern processes: of `supervise`, and of `serve`, which hands them
// to the supervisor that it starts.

import ArgumentParser
import GRPCWire
import Glibc
import ProcgateServer
import Supervision

struct ProcessOptions: ParsableArguments {
    @Option(help: "The supervisor's socket and output. (default: RUNTIME/state)")
    var stateDirectory: String?

    @Option(
        help: ArgumentHelp(
            "The user for commands whose request sets no run_as. (default: the gateway's own user)",
            valueName: "user"))
    var defaultUser: String?

    @Option(
        help: ArgumentHelp(
            "The name of this node in a fleet: process ids begin with it. (default: none)",
            valueName: "name"))
    var node: String?

    @Option(help: "For commands without arguments.")
    var shell = "/bin/sh"

    @Option(help: "Processes at once.")
    var maxRunning: UInt32 = 1024

    @Option(help: "Processes that wait for a place.")
    var maxQueued: UInt32 = 4096

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Between TERM and KILL.", valueName: "duration"))
    var gracePeriod = DurationArgument(milliseconds: 5_000)

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "How long a keyed Exec waits for its caller to come back.", valueName: "duration"))
    var resumeWindow = DurationArgument(milliseconds: 10_000)

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Output kept for each process.", valueName: "size"))
    var retainBytes = SizeArgument(bytes: 8 << 20)

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("How long an ended process is remembered.", valueName: "duration"))
    var retainTime = DurationArgument(milliseconds: 600_000)

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Of all retained output together; the oldest ended give way first.",
            valueName: "size"))
    var maxOutputMemory = SizeArgument(bytes: 1 << 30)

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Stdin, arguments and environments of all processes together.", valueName: "size"))
    var maxInputMemory = SizeArgument(bytes: 256 << 20)

    func validate() throws {
        guard stateDirectory != "" else {
            throw ValidationError("--state-directory names no directory")
        }
        guard defaultUser != "" else { throw ValidationError("--default-user names nobody") }
        if let problem = defaultUser.flatMap({ userNameProblem($0, "--default-user") }) {
            throw ValidationError(problem)
        }
        if let stateDirectory, let problem = socketProblem(absolute(stateDirectory)) {
            throw ValidationError(problem)
        }
        guard node.map(Self.isNodeName) ?? true else {
            throw ValidationError(
                "--node is a name of at most 63 characters of a-z and 0-9, with - and . inside")
        }
        guard shell.hasPrefix("/") else {
            throw ValidationError("--shell is a path: /bin/sh, not \(shell)")
        }
        guard maxRunning > 0 else { throw ValidationError("--max-running is at least 1") }
        guard maxOutputMemory.bytes >= 1 << 20 else {
            throw ValidationError("--max-output-memory is at least 1MiB")
        }
        guard maxInputMemory.bytes >= 1 << 20 else {
            throw ValidationError("--max-input-memory is at least 1MiB")
        }
    }

    /// As a label of the DNS, with dots inside.
    static func isNodeName(_ text: String) -> Bool {
        let isAlphanumeric = { (byte: UInt8) in
            (0x61...0x7A).contains(byte) || (0x30...0x39).contains(byte)
        }
        guard let first = text.utf8.first, let last = text.utf8.last, text.utf8.count <= 63 else {
            return false
        }
        return isAlphanumeric(first) && isAlphanumeric(last)
            && text.utf8.allSatisfy { isAlphanumeric($0) || $0 == 0x2D || $0 == 0x2E }
    }

    /// The state directory, or the default one.
    func resolvedStateDirectory() throws(Failure) -> String {
        if let stateDirectory { return absolute(stateDirectory) }
        let directory = try RuntimeDirectory.path() + "/state"
        if let problem = socketProblem(directory) { throw Failure(problem) }
        return directory
    }

    /// Why the supervisor cannot have its socket there.
    private func socketProblem(_ directory: String) -> String? {
        let most = SocketFile.longestPathBytes - "/supervisor.sock".utf8.count
        guard directory.utf8.count > most else { return nil }
        return "the path of a state directory has at most \(most) bytes, for the unix socket in "
            + "it: \(directory) has \(directory.utf8.count); name another by --state-directory"
    }

    /// - Throws: Where the default user is nobody here: no command could be run. A number that no
    ///   user has is taken, as it is for a single process.
    func checkDefaultUser() throws(Failure) {
        guard let defaultUser else { return }
        guard defaultUser.utf8.count <= 256 else {
            throw Failure("--default-user: a user's name has at most 256 bytes")
        }
        guard getpwnam(defaultUser) == nil else { return }
        guard let number = scaledNumber(defaultUser[...], by: 1), number < UInt64(uid_t.max)
        else {
            throw Failure("--default-user \(defaultUser): this host has no such user")
        }
    }

    func configuration() throws(Failure) -> SupervisorConfiguration {
        try checkDefaultUser()
        var configuration = SupervisorConfiguration(stateDirectory: try resolvedStateDirectory())
        configuration.node = node ?? ""
        configuration.shell = shell
        configuration.defaultUser = defaultUser ?? ""
        configuration.maxRunning = Int(maxRunning)
        configuration.maxQueued = Int(maxQueued)
        configuration.gracePeriod = gracePeriod.duration
        configuration.resumeWindow = resumeWindow.duration
        configuration.retainBytes = Int(clamping: retainBytes.bytes)
        configuration.retainTime = retainTime.duration
        configuration.maxOutputMemory = Int(clamping: maxOutputMemory.bytes)
        configuration.maxInputMemory = Int(clamping: maxInputMemory.bytes)
        configuration.version = procgateVersion
        return configuration
    }

    /// What a running supervisor is compared with.
    var supervisorOptions: SupervisorOptions {
        var options = SupervisorOptions()
        options.node = node ?? ""
        options.shell = shell
        options.defaultUser = defaultUser ?? ""
        options.maxRunning = UInt64(maxRunning)
        options.maxQueued = UInt64(maxQueued)
        options.graceMilliseconds = gracePeriod.milliseconds
        options.resumeMilliseconds = resumeWindow.milliseconds
        options.retainBytes = retainBytes.bytes
        options.retainMilliseconds = retainTime.milliseconds
        options.maxOutputMemory = maxOutputMemory.bytes
        options.maxInputMemory = maxInputMemory.bytes
        return options
    }

    /// What `serve` starts its supervisor with.
    func superviseArguments(stateDirectory: String) -> [String] {
        var arguments = [
            "supervise", "--report-failure", "--state-directory", stateDirectory,
            "--shell", shell,
            "--max-running", String(maxRunning), "--max-queued", String(maxQueued),
            "--grace-period", gracePeriod.description,
            "--resume-window", resumeWindow.description,
            "--retain-bytes", retainBytes.description, "--retain-time", retainTime.description,
            "--max-output-memory", maxOutputMemory.description,
            "--max-input-memory", maxInputMemory.description,
        ]
        if let defaultUser { arguments += ["--default-user", defaultUser] }
        if let node { arguments += ["--node", node] }
        return arguments
    }
}

/// Why `name` cannot be a user's name. User services are asked only for names of usual length.
func userNameProblem(_ name: String, _ option: String) -> String? {
    let count = name.utf8.count
    guard count > UserNames.longestBytes else { return nil }
    return "\(option): a user name has at most \(UserNames.longestBytes) bytes, and this one has "
        + "\(count)"
}
