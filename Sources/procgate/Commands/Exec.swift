// procgate exec: run a command as if it were here.

import ArgumentParser
import Glibc
import ProcgateClient

struct Exec: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run a command, stream its output, and exit as it did.",
        discussion: """
            Exits with the command's code, with 128+n where signal n ended it, with 124 after its \
            timeout, with 127 if the program does not exist, with 126 if it cannot be executed.

            ^C goes to the process, a second ^C stops it with its tree, a third leaves. TERM leaves \
            at once. The process is killed when this command leaves, or loses its connection for \
            longer than the gateway waits, unless --keep is given.

            With -i the command reads what this one reads:
              tar c . | procgate exec -i -- tar x -C /tmp

            With -t it has a terminal, sized and resized as yours; ^P^Q leaves it running:
              procgate exec -t -- bash

            With --json each event is a line: {"queued":…} where it has to wait, {"started":…}, \
            {"output":…}, {"exited":…}.
            """)

    @OptionGroup var gateway: GatewayOptions

    @Flag(name: .customShort("i"), help: "Give it the input of this command.")
    var interactive = false

    @Flag(name: .customShort("t"), help: "Give it a terminal, sized as this one.")
    var terminal = false

    @Option(
        help: ArgumentHelp(
            "The keys that leave a terminal session: ctrl- and a letter, or a character.",
            valueName: "keys"))
    var detachKeys = DetachKeysArgument.usual

    @Flag(help: "The process goes on when this command loses its connection.")
    var keep = false

    @OptionGroup var command: CommandArguments

    func run() async throws {
        SignalSource.ignoreBrokenPipes()
        let signals = try SignalSource.take(
            [SIGINT, SIGTERM, SIGHUP, SIGQUIT] + (terminal ? [SIGWINCH] : []))
        let relay = SignalRelay()
        let relaying = relay.start(signals)
        defer { relaying.cancel() }
        let code = try await relay.run {
            try await gateway.withSandbox { sandbox in
                relay.connected(to: sandbox)
                return terminal
                    ? try await session(sandbox, relay) : try await stream(sandbox, relay)
            }
        }
        throw code
    }

    private var terminalOptions: CommandOptions {
        var options = command.options
        options.terminal = Terminal.size
        if options.env["TERM"] == nil, let name = environment("TERM") { options.env["TERM"] = name }
        return options
    }

    private func session(_ sandbox: Sandbox, _ relay: SignalRelay) async throws -> ExitCode {
        let session = try await sandbox.attach(
            command.program, arguments: command.arguments, options: terminalOptions,
            keepOnDetach: keep)
        return try await TerminalSession(
            session, isTerminal: true, isCommand: true, json: gateway.json, keys: detachKeys
        ).run(reading: interactive || Terminal.isInput, signals: relay)
    }

    private func stream(_ sandbox: Sandbox, _ relay: SignalRelay) async throws -> ExitCode {
        let stream =
            interactive
            ? try await sandbox.execStream(
                command.program, arguments: command.arguments, options: command.options,
                stdin: DescriptorInput.standard, keepOnDisconnect: keep)
            : try await sandbox.execStream(
                command.program, arguments: command.arguments, options: command.options,
                keepOnDisconnect: keep)
        relay.joined(stream.process)
        let printer = EventPrinter(json: gateway.json)
        for try await event in stream.events {
            var ended: ProcessResult?
            if case .output(.exit(let result)) = event { ended = result }
            do {
                try await printer.print(event)
            } catch {
                throw await UnwrittenOutput.outcome(
                    after: error, ended, of: stream.process, rest: stream.events)
            }
            if let ended { return try Outcome.exitCode(ended.process) }
        }
        throw Failure("the gateway ended the command's output without its exit")
    }
}
