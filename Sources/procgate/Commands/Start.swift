// procgate start: start a process that goes on by itself.

import ArgumentParser
import ProcgateClient

struct Start: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Start a process, and print its id.",
        discussion: """
            It goes on when this command has ended: procgate logs, wait, attach, stop take its id. \
            Without -i it has no stdin. With -i its stdin stays open for procgate stdin and attach.
            """)

    @OptionGroup var gateway: GatewayOptions

    @Flag(name: .customShort("i"), help: "Keep its stdin open for procgate stdin.")
    var interactive = false

    // Options of exec that say nothing of a process that was started: it has no session to leave,
    // and always goes on.
    @Option(help: .hidden)
    var detachKeys = DetachKeysArgument.usual

    @Flag(help: .hidden)
    var keep = false

    @OptionGroup var command: CommandArguments

    func run() async throws {
        SignalSource.ignoreBrokenPipes()
        try await gateway.withSandbox { sandbox in
            let process = try await sandbox.processes.start(
                command.program, arguments: command.arguments, options: command.options,
                noStdin: !interactive)
            try await Output.line(gateway.json ? JSON(process.summary).text : process.id)
        }
    }
}
