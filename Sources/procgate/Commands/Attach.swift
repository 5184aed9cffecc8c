// procgate attach: join a process that runs.

import ArgumentParser
import Glibc
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

    @Option(
        help: ArgumentHelp(
            "The keys that leave the session: ctrl- and a letter, or a character.",
            valueName: "keys"))
    var detachKeys = DetachKeysArgument.usual

    @Flag(name: .customLong("no-stdin"), help: "Give it no input.")
    var noStdin = false

    @Argument(help: ProcessLookup.help)
    var id: String

    func run() async throws {
        SignalSource.ignoreBrokenPipes()
        let code = try await gateway.withSandbox { sandbox in
            let process = try await ProcessLookup(sandbox).process(id)
            let session = try await process.attach()
            let isTerminal = await hasTerminal(session.process)
            let (signals, relay) = (try takeSignals(), SignalRelay())
            let relaying = relay.start(signals)
            defer { relaying.cancel() }
            return try await TerminalSession(
                session, isTerminal: isTerminal, isCommand: false, json: gateway.json,
                keys: detachKeys
            ).run(reading: !noStdin, signals: relay)
        }
        throw code
    }

    /// ^C at a process without a terminal is a signal here, which is passed on. On a raw terminal no
    /// key makes a signal: whoever sends one means this program.
    private func takeSignals() throws(Failure) -> AsyncStream<Int32> {
        let hasTerminal = !noStdin && Terminal.isInput
        return try SignalSource.take(
            [SIGTERM, SIGHUP, SIGWINCH] + (hasTerminal ? [SIGINT, SIGQUIT] : []))
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
