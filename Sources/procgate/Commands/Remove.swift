// procgate rm: forget processes that have ended.

import ArgumentParser
import ProcgateClient

struct Remove: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rm",
        abstract: "Forget ended processes, and free their output.")

    @OptionGroup var gateway: GatewayOptions

    @Argument(help: ProcessLookup.helpForSeveral)
    var ids: [String]

    func run() async throws {
        SignalSource.ignoreBrokenPipes()
        try await gateway.withSandbox { sandbox in
            try await EachProcess(ids, gateway: gateway).run(in: sandbox) { process in
                try await process.delete()
                return process.summary
            }
        }
    }
}
