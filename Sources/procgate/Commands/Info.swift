// procgate info: what the gateway says of itself.

import ArgumentParser
import ProcgateClient

struct Info: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show the gateway's version, limits and abilities.")

    @OptionGroup var gateway: GatewayOptions

    func run() async throws {
        SignalSource.ignoreBrokenPipes()
        let info = try await gateway.withSandbox { sandbox in try await sandbox.info() }
        let lines = gateway.json ? [JSON(info).indented] : ProcessText.page(info)
        try await Output.line(lines.joined(separator: "\n"))
    }
}
