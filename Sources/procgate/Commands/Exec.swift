// procgate exec: run a command as if it were here.

import ArgumentParser
import Glibc
import ProcgateClient

struct Exec: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run a command, stream its output, and exit as it did.",
        discussion: """
            Exits with the command's code, with 128+n where signal n ended it, with 124 for its \
            timeout. ^C goes to the process, a second one stops it with its tree, a third leaves.

            With -i the command reads what this one reads:
              tar c . | procgate exec -i -- tar x -C /tmp

            With -t it has a terminal, sized and resized as yours; ^P^Q leaves it running:
              procgate exec -t -- bash

            With --json each event is a line: {"queued":…} where it has to wait, {"started":…}, \
            {"output":…}, {"exited":…}.
            """)

    @OptionGroup var gateway: GatewayOptions
    @OptionGroup var command: CommandArguments

    func run() async throws {
        SignalSource.ignoreBrokenPipes()
        let code = try await gateway.withSandbox { sandbox in
            command.terminal ? try await session(sandbox) : try await stream(sandbox)
        }
        throw code
    }

    private func session(_ sandbox: Sandbox) async throws -> ExitCode {
        let session = try await sandbox.attach(
            command.program, arguments: command.arguments, options: command.options,
            keepOnDetach: true)
        return try await TerminalSession(session, isTerminal: true, json: gateway.json).run(
            reading: command.interactive || Terminal.isInput, endsWithCaller: true)
    }

    private func stream(_ sandbox: Sandbox) async throws -> ExitCode {
        let signals = try SignalSource.take([SIGINT, SIGTERM, SIGHUP, SIGQUIT])
        let stream =
            command.interactive
            ? try await sandbox.execStream(
                command.program, arguments: command.arguments, options: command.options,
                stdin: DescriptorInput.standard)
            : try await sandbox.execStream(
                command.program, arguments: command.arguments, options: command.options)
        let relay = SignalRelay(stream.process).start(signals)
        defer { relay.cancel() }
        let ended: ProcessResult?
        do {
            ended = try await follow(stream)
        } catch {
            // Nobody sees what it does, and nobody will come back for it.
            if !(error is SandboxError) { await Farewell.kill(stream.process) }
            throw error
        }
        guard let ended else {
            throw Failure("the gateway ended the command's output without its exit")
        }
        return try Outcome.exitCode(ended.process)
    }

    private func follow(_ stream: ExecStream) async throws -> ProcessResult? {
        let printer = EventPrinter(json: gateway.json)
        for try await event in stream.events {
            try await printer.print(event)
            if case .output(.exit(let result)) = event { return result }
        }
        return nil
    }
}
