// procgate logs: a process's output, as far as it is retained.

import ArgumentParser
import ProcgateClient

struct Logs: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print the retained output of a process.",
        discussion: """
            Its stdout goes to standard output, its stderr to standard error. What is no longer \
            retained is skipped, with a line on standard error. With --json each event is a line: \
            {"output":…}, {"gap":…}, {"exited":…}.
            """)

    @OptionGroup var gateway: GatewayOptions

    @Argument(help: "The process.")
    var id: String

    @Flag(help: "Go on with what it prints, to its end.")
    var follow = false

    @Option(help: ArgumentHelp("The first chunk to print, from 1.", valueName: "n"))
    var fromSeq: UInt64 = 0

    func run() async throws {
        SignalSource.ignoreBrokenPipes()
        try await gateway.withSandbox { sandbox in
            let process = try await sandbox.getProcess(id)
            let printer = EventPrinter(json: gateway.json)
            let events = process.stream(fromSeq: fromSeq, follow: follow, allowGaps: true)
            for try await event in events { try await printer.print(event) }
        }
    }
}
