// procgate signal: send a signal to a process.

import ArgumentParser
import ProcgateClient

struct SignalCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "signal",
        abstract: "Send a signal to a process.")

    @OptionGroup var gateway: GatewayOptions

    @Argument(help: "The process.")
    var id: String

    @Argument(help: "TERM, SIGTERM or 15.")
    var name: String

    @Option(help: "Who gets it: the process group, the command alone, or every descendant.")
    var scope = SignalScope.group

    func run() async throws {
        SignalSource.ignoreBrokenPipes()
        let process = try await gateway.withSandbox { sandbox in
            let process = try await sandbox.getProcess(id)
            guard try await process.signal(name, scope: scope) else {
                throw Failure("process \(id) has ended: procgate show \(id) says how")
            }
            return process.summary
        }
        if gateway.json { try await Output.line(JSON(process).indented) }
    }
}
