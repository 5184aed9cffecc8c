// procgate attach: join a process that runs.

import ArgumentParser
import ProcgateClient

struct Attach: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Join a process: see its output, give it your input.",
        discussion: """
            What is retained of its output comes first. On your terminal ^P^Q leaves it, and it \
            goes on; where it has no terminal of its own ^C interrupts it and ^D ends its input. \
            Exits as the process did.
            """)

    @OptionGroup var gateway: GatewayOptions

    @Argument(help: "The process.")
    var id: String

    @Flag(name: .customLong("no-stdin"), help: "Give it no input.")
    var noStdin = false

    func run() async throws {
        SignalSource.ignoreBrokenPipes()
        let code = try await gateway.withSandbox { sandbox in
            let session = try await sandbox.attach(to: id)
            let isTerminal = await hasTerminal(session.process)
            return try await TerminalSession(
                session, isTerminal: isTerminal, json: gateway.json
            ).run(reading: !noStdin, endsWithCaller: false)
        }
        throw code
    }

    /// Gives the process's terminal the size of this one, and tells whether it has one. Where
    /// there is no size to give, one that no terminal takes is asked for.
    private func hasTerminal(_ process: SandboxProcess) async -> Bool {
        let isSized = Terminal.isOutput && !noStdin
        do {
            try await process.resize(
                isSized ? Terminal.size : TerminalSize(columns: 0, rows: 0))
            return true
        } catch {
            return (error as? SandboxError)?.reason != .noTerminal
        }
    }
}
