// procgate show: everything known of one process.

import ArgumentParser
import ProcgateClient

struct Show: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show everything known of a process.")

    @OptionGroup var gateway: GatewayOptions

    @Argument(help: ProcessLookup.help)
    var id: String

    func run() async throws {
        SignalSource.ignoreBrokenPipes()
        let process = try await gateway.withSandbox { sandbox in
            try await ProcessLookup(sandbox).process(id).summary
        }
        let lines =
            gateway.json
            ? [JSON(process).indented] : ProcessText.page(process, style: .output)
        try await Output.line(lines.joined(separator: "\n"))
    }
}
