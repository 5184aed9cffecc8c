// procgate start: start a process that goes on by itself.

import ArgumentParser
import ProcgateClient

struct Start: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Start a process, and print its id.",
        discussion: """
            It goes on when this command has ended: procgate logs, wait, attach, stop take its id.
            With -i the process is given this command's input; else it waits for procgate stdin.
            """)

    @OptionGroup var gateway: GatewayOptions
    @OptionGroup var command: CommandArguments

    func run() async throws {
        SignalSource.ignoreBrokenPipes()
        try await gateway.withSandbox { sandbox in
            let process = try await sandbox.processes.start(
                command.program, arguments: command.arguments, options: command.options)
            try await Output.line(gateway.json ? JSON(process.summary).text : process.id)
            if command.interactive {
                try await process.writeStdin(DescriptorInput.standard, eof: true)
            }
        }
    }
}
