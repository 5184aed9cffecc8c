// The entry: the list of the commands, and the one place where a failure becomes a line and an
// exit status. Knows no command's options.

import ArgumentParser
import Glibc

@main
struct Procgate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "procgate",
        abstract: "Run, stream and control processes over gRPC.",
        discussion: """
            The gateway runs commands on its host for callers that speak gRPC; the other commands \
            are such callers.

            They find the gateway by --address or PROCGATE_ADDRESS (default 127.0.0.1:7070), and \
            their token by PROCGATE_TOKEN, --token-file, or the file that a gateway of the same \
            user made. Durations are written 250ms, 1.5s, 2m, 1h, 2d; sizes 64KiB, 4MiB, 1GiB.

            Exit status: that of the command for exec, attach and wait (128+n for signal n, 124 \
            after a timeout, 127 if the program does not exist, 126 if it cannot be executed); else \
            0, 64 for wrong usage, 69 if the gateway cannot be reached, 77 if it refuses the \
            caller, 1 after any other failure.
            """,
        version: procgateVersion,
        groupedSubcommands: commandGroups
    )

    static func main() async {
        holdStandardDescriptors()
        do {
            let words = try GivenWords.read()
            try checkCommand(words)
            let arguments = try EnvironmentOptions.added(to: words)
            var command = try parseAsRoot(arguments)
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
        } catch {
            leave(for: error)
        }
    }

    /// Prints what there is to say of the error, and ends the program with its status.
    private static func leave(for error: any Error) -> Never {
        if let code = error as? ExitCode { Glibc.exit(code.rawValue) }
        if let failures = (error as? Failures)?.all ?? (error as? Failure).map({ [$0] }) {
            for failure in failures { standardError("procgate: \(printable(failure.message))") }
            Glibc.exit((failures.first?.status ?? .failure).rawValue)
        }
        let status = exitCode(for: error)
        if status == .success { leave(printing: fullMessage(for: error)) }
        let isUsage = status == .validationFailure
        var line = inOurWords(oneLine(message(for: error)))
        if line.hasSuffix(".") { line.removeLast() }
        standardError("procgate: \(line)" + (isUsage ? "; see procgate help" : ""))
        Glibc.exit(isUsage ? ExitStatus.usage.rawValue : status.rawValue)
    }

    /// Help, the version or a completion script, which fail as any output does.
    private static func leave(printing text: String) -> Never {
        let code = Output.writeAll(Array((text + "\n").utf8), to: STDOUT_FILENO)
        guard code != 0 else { Glibc.exit(0) }
        standardError("procgate: cannot write: \(String(cString: strerror(code)))")
        Glibc.exit(ExitStatus.failure.rawValue)
    }
}

/// The parser answers `help nosuch` and `nosuch --help` with the help of the whole, as if there
/// were nothing wrong.
/// - Throws: Where the words begin with a command that is not there.
func checkCommand(_ words: [String]) throws(Failure) {
    let isHelp = words.first == "help"
    let named = (isHelp ? words.dropFirst() : words.prefix(1)).filter { !$0.hasPrefix("-") }
    guard let name = named.first else { return }
    let names = commandGroups.flatMap { $0.subcommands }.map { $0._commandName }
    guard name == "help" || names.contains(name) else {
        throw Failure("there is no command '\(name)': procgate help lists them", status: .usage)
    }
    guard !isHelp || named.count == 1 else {
        throw Failure("'\(name)' has no commands of its own: procgate help \(name)", status: .usage)
    }
}

/// A message of several lines in one: the values to choose from stand below each other in it.
func oneLine(_ message: String) -> String {
    var line = ""
    for part in message.split(whereSeparator: \.isNewline) {
        let words = part.drop(while: \.isWhitespace)
        let isItem = words.hasPrefix("- ")
        let isFirst = line.isEmpty || line.hasSuffix(":")
        line += line.isEmpty ? "" : isItem && !isFirst ? ", " : " "
        line += String(isItem ? words.dropFirst(2) : words)
    }
    return line.isEmpty ? "wrong usage" : printable(line)
}

/// What the parser says of a value that is no duration or no size, which it knows by the name of
/// the option's value alone: with what one would write.
func inOurWords(_ message: String) -> String {
    let begin = "The value '"
    let forms = [
        ("<duration>'", "no duration: write 250ms, 5s, 2m or 1h"),
        ("<size>'", "no size: write 64KiB, 4MiB or 1GiB"),
        ("<keys>'", "no key of a terminal: write ctrl-p,ctrl-q or single characters"),
    ]
    guard message.hasPrefix(begin),
        let form = forms.first(where: { message.hasSuffix($0.0) }),
        let cut = message.ranges(of: "' is invalid for '").last
    else { return message }
    let value = message[..<cut.lowerBound].dropFirst(begin.count)
    let option = message[cut.upperBound...].prefix { $0 != " " }
    return "\(option): '\(value)' is \(form.1)"
}

/// Those of the first three descriptors that came closed are taken, so that nothing opened later
/// is read or written in their place. In the wrong direction: using one stays the error that it is
/// on a closed one, EBADF; in the right one, what is printed would be lost without a word.
private func holdStandardDescriptors() {
    for descriptor in [STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO]
    where fcntl(descriptor, F_GETFD) < 0 && errno == EBADF {
        _ = open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY)
    }
}

/// As `procgate --help` shows them.
private let commandGroups = [
    CommandGroup(name: "Run", subcommands: [Exec.self, Start.self]),
    CommandGroup(
        name: "Follow",
        subcommands: [List.self, Show.self, Logs.self, Wait.self, Attach.self]),
    CommandGroup(
        name: "Control",
        subcommands: [Stdin.self, SignalCommand.self, Stop.self, Remove.self]),
    CommandGroup(
        name: "Gateway",
        subcommands: [
            Serve.self, Supervise.self, Info.self, CordonCommand.self, Uncordon.self,
        ]),
]

func standardError(_ line: String) {
    writeLine(line, to: STDERR_FILENO)
}

/// A whole line, at once: whoever waits for it reads it at once.
func standardOutput(_ line: String) {
    writeLine(line, to: STDOUT_FILENO)
}

private func writeLine(_ line: String, to descriptor: Int32) {
    var line = line
    line.append("\n")
    line.withUTF8 { bytes in
        _ = write(descriptor, bytes.baseAddress, bytes.count)
    }
}
