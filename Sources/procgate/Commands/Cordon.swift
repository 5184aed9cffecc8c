// procgate cordon and procgate uncordon: whether a gateway accepts new processes.

import ArgumentParser
import ProcgateClient

struct CordonCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cordon",
        abstract: "Refuse new processes; those that run or wait go on.",
        discussion: """
            The gateway refuses new processes until it is uncordoned, also after a restart. Every \
            other call works.
            """)

    @OptionGroup var gateway: GatewayOptions

    func run() async throws {
        try await gateway.withSandbox { sandbox in try await sandbox.setCordon(true) }
    }
}

struct Uncordon: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Accept new processes again.")

    @OptionGroup var gateway: GatewayOptions

    func run() async throws {
        try await gateway.withSandbox { sandbox in try await sandbox.setCordon(false) }
    }
}
