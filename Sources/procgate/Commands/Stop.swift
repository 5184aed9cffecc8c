// procgate stop: end processes with their trees.

import ArgumentParser
import ProcgateClient

struct Stop: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Stop processes: TERM, then KILL, until the whole tree is gone.",
        discussion: """
            Stops all of them at once, and prints the id of each that is gone. A process that had \
            ended before is no failure.
            """)

    @OptionGroup var gateway: GatewayOptions

    @Argument(help: ProcessLookup.helpForSeveral)
    var ids: [String]

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Between TERM and KILL; 0s kills at once. (default: the process's own)",
            valueName: "duration"))
    var grace: DurationArgument?

    func run() async throws {
        SignalSource.ignoreBrokenPipes()
        try await gateway.withSandbox { sandbox in
            let grace = grace?.duration
            try await Spinner.during("stopping") {
                try await EachProcess(ids, gateway: gateway).run(in: sandbox) { process in
                    try await process.stop(grace: grace)
                }
            }
        }
    }
}
