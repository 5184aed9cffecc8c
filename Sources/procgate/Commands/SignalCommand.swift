// procgate signal: send a signal to a process.

import ArgumentParser
import ProcgateClient

struct SignalCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "signal",
        abstract: "Send a signal to a process.")

    @OptionGroup var gateway: GatewayOptions

    @Argument(help: ProcessLookup.help)
    var id: String

    @Argument(help: "TERM, SIGTERM or 15.")
    var name: String

    @Option(help: "Who gets it: the process group, the command alone, or every descendant.")
    var scope = SignalScope.group

    func run() async throws {
        SignalSource.ignoreBrokenPipes()
        let process = try await gateway.withSandbox { sandbox in
            let process = try await ProcessLookup(sandbox).process(id)
            guard try await process.signal(name, scope: scope) else {
                throw Self.notSent(name, to: try await process.refresh())
            }
            return process.summary
        }
        if gateway.json { try await Output.line(JSON(process).indented) }
    }

    /// The gateway refuses both what has ended and what a queued process cannot be sent.
    private static func notSent(_ name: String, to process: ProcessSummary) -> Failure {
        switch process.status {
        case .queued:
            Failure(
                "process \(process.id) is still queued: only TERM, INT and KILL reach it, and it "
                    + "then never starts")
        case .running:
            Failure(
                "process \(process.id) was about to start when \(name) came: send it again")
        case .exited, .failed, .killed, .timedOut:
            Failure(
                "process \(process.id) has ended: procgate show \(process.id) says how")
        }
    }
}
