// From what a caller asked for to what a child is made of, with every refusal that can
// be told before anything is forked. Knows no process.

import CLinux
import Glibc
import LinuxIO
import ProcgateV1

/// All that a child needs beside its descriptors.
struct LaunchPlan {
    var user: UserRecord
    /// Files to execute, tried in order.
    var paths: [String]
    var arguments: [String]
    /// "NAME=value".
    var environment: [String]
    var directory: String
    /// Where the home, which nobody asked for, cannot be entered.
    var fallbackDirectory: String?
    var changesUser: Bool
    var limits: [clinux_launch_limit] = []
    var terminal: (columns: UInt16, rows: UInt16)?
}

/// What plans are made of, apart from the spec.
struct LaunchPlanner {
    let shell: String
    let defaultUser: String
    var users = UserDirectory()

    /// The kernel's MAX_ARG_STRLEN, its NUL included.
    private static let longestArgumentBytes = 128 << 10
    /// The kernel takes at most this for all strings, whatever the stack's limit.
    private static let mostArgumentBytes = 6 << 20

    /// Labels come back with every answer and event that tells of the process: far below what
    /// gRPC clients take as a message, 4 MiB.
    private static let mostLabelBytes = 256 << 10

    init(shell: String, defaultUser: String) {
        self.shell = shell
        self.defaultUser = defaultUser
    }

    mutating func plan(_ spec: ProcessSpec, now: Instant) throws(Refusal) -> LaunchPlan {
        try checkStrings(spec)
        let user = try user(of: spec, now: now)
        let (directory, fallback) = try directory(of: spec, user: user)
        let environment = environment(of: spec, user: user)
        let arguments = arguments(of: spec, user: user)
        var plan = LaunchPlan(
            user: user, paths: [], arguments: arguments,
            environment: environment.map { "\($0.key)=\($0.value)" }.sorted(),
            directory: directory, fallbackDirectory: fallback,
            changesUser: user.uid != geteuid())
        plan.terminal = try terminal(of: spec)
        try checkSize(plan)
        plan.paths = Self.candidates(for: arguments[0], path: environment["PATH"])
        // So many paths, each as long as the command, are another size than their sum.
        try checkSize(plan)
        return plan
    }

    // MARK: Strings

    private func checkStrings(_ spec: ProcessSpec) throws(Refusal) {
        guard !spec.command.isEmpty else {
            throw Refusal(.commandRequired, "the command is empty")
        }
        guard !spec.command.utf8.contains(0), !spec.args.contains(where: { $0.utf8.contains(0) })
        else {
            throw Refusal(.commandRequired, "a command and its arguments hold no NUL")
        }
        guard !spec.cwd.utf8.contains(0) else {
            throw Refusal(.cwdInvalid, "the working directory holds a NUL")
        }
        let labels = spec.labels.reduce(0) { $0 + $1.key.utf8.count + $1.value.utf8.count + 16 }
        guard labels <= Self.mostLabelBytes else {
            throw Refusal(
                .argumentsTooLong,
                "labels of \(labels) bytes are more than \(Self.mostLabelBytes)")
        }
        for (name, value) in spec.env {
            guard !name.isEmpty, !name.utf8.contains(0), !name.utf8.contains(0x3D) else {
                throw Refusal(.envInvalid, "'\(name)' is no name of an environment variable")
            }
            guard !value.utf8.contains(0) else {
                throw Refusal(.envInvalid, "the value of '\(name)' holds a NUL")
            }
        }
    }

    private func checkSize(_ plan: LaunchPlan) throws(Refusal) {
        var total = 0
        for strings in [plan.arguments, plan.environment] {
            for string in strings {
                let size = string.utf8.count + 1
                guard size <= Self.longestArgumentBytes else {
                    throw Refusal(
                        .argumentsTooLong,
                        "an argument of \(size) bytes is longer than the host's"
                            + " \(Self.longestArgumentBytes)")
                }
                total += size + MemoryLayout<UnsafeRawPointer>.size
            }
        }
        total += plan.paths.map(\.utf8.count).max() ?? 0
        let stack = clinux_limit(CLINUX_LIMIT_STACK)
        let quarter = Int(min(stack.soft / 4, UInt64(Self.mostArgumentBytes)))
        let limit = max(Self.longestArgumentBytes, quarter)
        guard total <= limit else {
            throw Refusal(
                .argumentsTooLong,
                "arguments and environment of \(total) bytes are more than the host's \(limit)")
        }
    }

    // MARK: User and directory

    private mutating func user(of spec: ProcessSpec, now: Instant) throws(Refusal) -> UserRecord {
        let name = spec.runAs.isEmpty ? defaultUser : spec.runAs
        guard let user = users.user(name, now: now) else {
            throw Refusal(.userUnknown, "there is no user '\(name)'")
        }
        guard user.uid == geteuid() || geteuid() == 0 else {
            throw Refusal(.runAsDenied, "the supervisor may not become user '\(name)'")
        }
        return user
    }

    /// The directory, and where to go when that one cannot be entered.
    private func directory(
        of spec: ProcessSpec, user: UserRecord
    ) throws(Refusal) -> (String, String?) {
        guard !spec.cwd.isEmpty else { return (user.home, "/") }
        let path = spec.cwd.hasPrefix("/") ? spec.cwd : user.home + "/" + spec.cwd
        let error = clinux_check_directory(
            path, user.uid, user.gid, user.groups, user.groups.count)
        guard error == 0 else {
            throw Refusal(.cwdInvalid, "\(path): \(SystemError.text(of: error))")
        }
        return (path, nil)
    }

    private func terminal(of spec: ProcessSpec) throws(Refusal) -> (UInt16, UInt16)? {
        guard let size = spec.terminal else { return nil }
        return try Self.terminalSize(size)
    }

    static func terminalSize(_ size: TerminalSize) throws(Refusal) -> (UInt16, UInt16) {
        guard let columns = UInt16(exactly: size.columns), let rows = UInt16(exactly: size.rows),
            columns > 0, rows > 0
        else {
            throw Refusal(
                .terminalInvalid,
                "a terminal has 1 to 65535 columns and rows, not"
                    + " \(size.columns) and \(size.rows)")
        }
        return (columns, rows)
    }

    // MARK: Command and environment

    private func arguments(of spec: ProcessSpec, user: UserRecord) -> [String] {
        switch spec.shell {
        case .none:
            return [spec.command] + spec.args
        case .sh:
            return [shell, "-c"] + shellCommand(spec)
        case .login:
            return [user.shell, "-l", "-c"] + shellCommand(spec)
        default:
            return spec.args.isEmpty
                ? [shell, "-c"] + shellCommand(spec) : [spec.command] + spec.args
        }
    }

    /// What follows `-c`. With arguments the command's own text is `$0`, so that they
    /// are `$1`, `$2`, …
    private func shellCommand(_ spec: ProcessSpec) -> [String] {
        let looksLikeOption = spec.command.utf8.first == 0x2D || spec.command.utf8.first == 0x2B
        let command = (looksLikeOption ? ["--"] : []) + [spec.command]
        return spec.args.isEmpty ? command : command + [spec.command] + spec.args
    }

    private func environment(of spec: ProcessSpec, user: UserRecord) -> [String: String] {
        guard !spec.clearEnv else { return spec.env }
        var environment = [
            "PATH": user.uid == 0 ? Self.rootPath : Self.userPath,
            "HOME": user.home,
            "USER": user.name,
            "LOGNAME": user.name,
            "SHELL": user.shell,
            "LANG": "C.UTF-8",
        ]
        if spec.terminal != nil { environment["TERM"] = "xterm-256color" }
        return environment.merging(spec.env) { _, theirs in theirs }
    }

    private static let rootPath =
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    private static let userPath = "/usr/local/bin:/usr/bin:/bin"
    /// Where a command is looked for without PATH, as execvp does.
    private static let standardPath = "/bin:/usr/bin"

    private static func candidates(for command: String, path: String?) -> [String] {
        // No file has a name that long: the kernel says so of the first one.
        if command.utf8.contains(0x2F) || command.utf8.count > Int(NAME_MAX) { return [command] }
        return (path ?? standardPath).split(separator: ":", omittingEmptySubsequences: false)
            .map { $0.isEmpty ? command : "\($0)/\(command)" }
    }
}
