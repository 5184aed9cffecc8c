// procgate stdin: write to a process that runs.

import ArgumentParser
import Glibc
import ProcgateClient

struct Stdin: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write to the stdin of a process, and close it.",
        discussion: """
            Writes the file, or standard input, as fast as the process reads it.
            """)

    @OptionGroup var gateway: GatewayOptions

    @Argument(help: ProcessLookup.help)
    var id: String

    @Argument(help: "What to write. (default: standard input)")
    var file: String?

    @Flag(name: .customLong("no-eof"), help: "Leave its stdin open.")
    var noEOF = false

    func run() async throws {
        SignalSource.ignoreBrokenPipes()
        let input = try openInput()
        try await gateway.withSandbox { sandbox in
            let process = try await ProcessLookup(sandbox).process(id)
            let written = try await process.writeStdin(input, eof: !noEOF)
            if gateway.json {
                try await Output.line(JSON.object([("stdinBytes", JSON(written))]).text)
            }
        }
    }

    private func openInput() throws(Failure) -> DescriptorInput {
        guard let file, file != "-" else { return .standard }
        let descriptor = open(file, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw Failure("cannot read \(file): \(String(cString: strerror(errno)))")
        }
        var facts = stat()
        guard fstat(descriptor, &facts) == 0, facts.st_mode & S_IFMT != S_IFDIR else {
            throw Failure("cannot read \(file): \(String(cString: strerror(EISDIR)))")
        }
        return DescriptorInput(descriptor: descriptor)
    }
}
