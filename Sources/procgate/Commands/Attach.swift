// procgate attach: join a process that runs.

import ArgumentParser
import ProcgateClient

struct Attach: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Join a process: see its output, give it your input.",
        discussion: """
            What is retained of its output comes first. On a terminal ^P^Q leaves it, and it goes \
            on. Exits as the process did.
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
            if Terminal.isOutput && !noStdin {
                // Refused where the process has no terminal, which is well then.
                try? await session.process.resize(Terminal.size)
            }
            return try await TerminalSession(session, json: gateway.json).run(
                reading: !noStdin, endsWithCaller: false)
        }
        throw code
    }
}
