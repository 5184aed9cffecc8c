// procgate wait: until a process has ended.

import ArgumentParser
import ProcgateClient

struct Wait: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Wait for the end of a process, and exit as it did.",
        discussion: """
            With --json the result is printed, with the output that is retained. Where --timeout \
            comes first the exit status is 1, whatever the process is doing.
            """)

    @OptionGroup var gateway: GatewayOptions

    @Argument(help: ProcessLookup.help)
    var id: String

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Give up after that; the process goes on. (default: never)", valueName: "duration"))
    var timeout: DurationArgument?

    func run() async throws {
        SignalSource.ignoreBrokenPipes()
        let code = try await gateway.withSandbox { sandbox in
            let process = try await ProcessLookup(sandbox).process(id)
            let result = try await Spinner.during("waiting for \(id)") {
                try await end(of: process)
            }
            if gateway.json { try await Output.line(JSON(result).indented) }
            return try Outcome.exitCode(result.process)
        }
        throw code
    }

    private func end(of process: SandboxProcess) async throws -> ProcessResult {
        do {
            // Nobody sees the output but in JSON: the least that can be asked for.
            return try await process.wait(
                timeout: timeout?.duration, maxOutputBytes: gateway.json ? nil : 1)
        } catch let error as SandboxError where error.reason == .waitTimedOut {
            guard let timeout else { throw error }
            throw Failure("process \(process.id) has not ended within \(timeout): it goes on")
        }
    }
}
