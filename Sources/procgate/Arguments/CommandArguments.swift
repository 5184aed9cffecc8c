// The options of `exec` and `start` that describe the command.

public import ArgumentParser
public import ProcgateClient

struct CommandArguments: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Absolute, or relative to the user's home. (default: that home)", valueName: "dir"))
    var cwd: String?

    @Option(
        help: ArgumentHelp(
            "Add to the command's environment; may be repeated.", valueName: "k=v"))
    var env: [KeyValueArgument] = []

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Stop the command after that time: TERM, then KILL. 0s is no timeout. (default: none)",
            valueName: "duration"))
    var timeout: DurationArgument?

    @Option(
        help: ArgumentHelp("Run it as this user, a name or a number.", valueName: "user"))
    var runAs: String?

    @Option(
        help: ArgumentHelp(
            "Yours, to find the process again; may be repeated.", valueName: "k=v"))
    var label: [KeyValueArgument] = []

    @Flag(help: "Let sudo and other setuid programs work, if the gateway's policy allows it.")
    var allowNewPrivileges = false

    @Argument(
        parsing: .captureForPassthrough,
        help: ArgumentHelp(
            "One word is given to the shell, several are run directly. What follows the first is "
                + "the command's; -- before it ends the options.",
            valueName: "command"))
    var command: [String]

    func validate() throws {
        guard let program = words.first, !program.isEmpty else {
            throw ValidationError("Missing expected argument '<command>'")
        }
        // The parser takes an option that it does not know for the command.
        guard hasTerminator || !program.hasPrefix("-") || program == "-" else {
            throw ValidationError("Unknown option '\(program)'")
        }
    }

    private var hasTerminator: Bool { command.first == "--" }
    private var words: ArraySlice<String> { hasTerminator ? command.dropFirst() : command[...] }

    var program: String { words.first ?? "" }
    var arguments: [String] { Array(words.dropFirst()) }

    /// One word that is meant to be run directly has no way to say so: the shell runs it.
    var options: CommandOptions {
        var options = CommandOptions()
        options.cwd = cwd
        options.env = env.dictionary
        options.timeout = timeout.flatMap { $0.milliseconds == 0 ? nil : $0.duration }
        options.runAs = runAs
        options.labels = label.dictionary
        options.allowNewPrivileges = allowNewPrivileges
        return options
    }
}

extension ProcessStatus: ExpressibleByArgument {
    /// As `--json` writes it; `timed-out` too.
    public init?(argument: String) {
        self.init(rawValue: argument.replacing("-", with: "_"))
    }

    public static var allValueStrings: [String] { allCases.map(\.rawValue) }
}

extension SignalScope: ExpressibleByArgument {}
