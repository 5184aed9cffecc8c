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
    /// Names and values.
    var environment: [String: String]
    var directory: String
    /// Where the home, which nobody asked for, cannot be entered.
    var fallbackDirectory: String?
    var changesUser: Bool
    /// Setuid programs gain nothing.
    var keepsPrivileges: Bool
    var limits: [clinux_launch_limit] = []
    var terminal: (columns: UInt16, rows: UInt16)?
}

/// What plans are made of, apart from the spec.
struct LaunchPlanner {
    let shell: String
    let defaultUser: String
    private let ownUser = geteuid()
    /// What the kernel takes as arguments and environment together: a quarter of the stack's
    /// limit, which children inherit, and no less than one argument.
    private let mostBytes = max(
        longestArgumentBytes,
        Int(min(clinux_limit(CLINUX_LIMIT_STACK).soft / 4, UInt64(mostArgumentBytes))))

    /// The kernel's MAX_ARG_STRLEN, its NUL included.
    private static let longestArgumentBytes = 128 << 10
    /// The kernel takes at most this for all strings, whatever the stack's limit.
    private static let mostArgumentBytes = 6 << 20

    /// The files that a command may be looked for as, all together.
    private static let mostPathBytes = 1 << 20

    /// Labels come back with every response and event that tells of the process: far below the
    /// largest message that gRPC clients accept by default, 4 MiB.
    static let mostLabelBytes = 256 << 10
    static let mostKeyBytes = 256

    init(shell: String, defaultUser: String) {
        self.shell = shell
        self.defaultUser = defaultUser
    }

    /// The name of the user that the command is to run as; empty is the supervisor's own.
    ///
    /// - Throws: USER_UNKNOWN for a name that no user has: nobody is asked for it.
    func userName(of spec: ProcessSpec) throws(Refusal) -> String {
        let name = spec.runAs.isEmpty ? defaultUser : spec.runAs
        guard name.utf8.count <= Int(CLINUX_NAME_BYTES), !name.utf8.contains(0) else {
            throw .userUnknown(name)
        }
        return name
    }

    /// Everything that can be refused before the user is known.
    func check(_ spec: ProcessSpec) throws(Refusal) {
        try checkStrings(spec)
        try checkSize(of: spec)
        _ = try terminal(of: spec)
    }

    /// `spec` has passed `check`.
    func plan(_ spec: ProcessSpec, as user: UserRecord) throws(Refusal) -> LaunchPlan {
        guard user.uid == ownUser || ownUser == 0 else {
            throw Refusal(.runAsDenied, "the supervisor may not become user '\(user.name)'")
        }
        let (directory, fallback) = directory(of: spec, user: user)
        let environment = environment(of: spec, user: user)
        let arguments = arguments(of: spec, user: user)
        var plan = LaunchPlan(
            user: user, paths: [], arguments: arguments, environment: environment,
            directory: directory, fallbackDirectory: fallback,
            changesUser: user.uid != ownUser,
            keepsPrivileges: user.uid != 0 && !spec.allowNewPrivileges)
        plan.terminal = try terminal(of: spec)
        plan.paths = Self.candidates(for: arguments[0], path: environment["PATH"])
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
        let labels = spec.labels.reduce(0) { $0 + $1.key.utf8.count + $1.value.utf8.count }
        guard labels <= Self.mostLabelBytes else {
            throw Refusal(
                .labelsInvalid,
                "the labels have \(labels) bytes; at most \(Self.mostLabelBytes) are allowed")
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

    /// What the kernel counts of one string: its bytes, its NUL and a pointer to it.
    private static func size(of string: String) -> Int {
        string.utf8.count + 1 + MemoryLayout<UnsafeRawPointer>.size
    }

    /// Before anything is made of the strings, since there may be many.
    private func checkSize(of spec: ProcessSpec) throws(Refusal) {
        var total = Self.size(of: spec.command)
        for argument in spec.args { total += Self.size(of: argument) }
        for (name, value) in spec.env { total += Self.size(of: name) + value.utf8.count + 1 }
        try refuse(total, above: mostBytes)
    }

    private func checkSize(_ plan: LaunchPlan) throws(Refusal) {
        var total = 0
        var longest = 0
        for argument in plan.arguments {
            total += Self.size(of: argument)
            longest = max(longest, argument.utf8.count + 1)
        }
        for (name, value) in plan.environment {
            total += Self.size(of: name) + value.utf8.count + 1
            longest = max(longest, name.utf8.count + value.utf8.count + 2)
        }
        guard longest <= Self.longestArgumentBytes else {
            throw Refusal(
                .argumentsTooLong,
                "an argument of \(longest) bytes is longer than the host's"
                    + " \(Self.longestArgumentBytes)")
        }
        total += plan.paths.map(\.utf8.count).max() ?? 0
        try refuse(total, above: mostBytes)
        // So many paths, each as long as the command, are another size than their sum.
        let paths = plan.paths.reduce(0) { $0 + Self.size(of: $1) }
        guard paths <= Self.mostPathBytes else {
            throw Refusal(
                .argumentsTooLong,
                "the files that PATH names for the command take \(paths) bytes; at most"
                    + " \(Self.mostPathBytes) are allowed")
        }
    }

    private func refuse(_ total: Int, above limit: Int) throws(Refusal) {
        guard total <= limit else {
            throw Refusal(
                .argumentsTooLong,
                "arguments and environment of \(total) bytes are more than the host's \(limit)")
        }
    }

    // MARK: User and directory

    /// The directory, and the one to take where it cannot be entered. The child enters it, as its
    /// own user: a file system that does not answer holds up nobody else.
    func directory(of spec: ProcessSpec, user: UserRecord) -> (path: String, fallback: String?) {
        guard !spec.cwd.isEmpty else { return (user.home, "/") }
        return (spec.cwd.hasPrefix("/") ? spec.cwd : user.home + "/" + spec.cwd, nil)
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
        var environment = spec.env
        let standard = [
            "PATH": user.uid == 0 ? Self.rootPath : Self.userPath,
            "HOME": user.home,
            "USER": user.name,
            "LOGNAME": user.name,
            "SHELL": user.shell,
            "LANG": "C.UTF-8",
        ]
        for (name, value) in standard where environment[name] == nil { environment[name] = value }
        if spec.terminal != nil, environment["TERM"] == nil {
            environment["TERM"] = "xterm-256color"
        }
        return environment
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
