// The command line of the client that plays gRPC's interoperability tests, one case at a time,
// against any server. Knows no case.

import ArgumentParser
import GRPCWire
import Glibc
import NIOPosix
import NIOSSL

@main
struct InteropClient: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "interop-client",
        abstract: "Play one of gRPC's interoperability test cases.",
        discussion: "Exit status 0 where the case passes; else 1, with one line that says why.")

    @Argument(help: "http://host:port or https://host:port.")
    var address: String

    @Option(name: .customLong("case"), help: "The case, as gRPC's descriptions name it.")
    var testCase: TestCase

    @Option(help: "PEM file of the roots that the server's certificate must come from.")
    var tlsAuthority: String?

    @Option(
        help: "How calls compress, other than those that say it themselves: identity or gzip.",
        transform: readCompression)
    var compression = CompressionAlgorithm.identity

    @Option(help: "Calls of the soak cases.")
    var soakIterations = 20

    @Option(help: "The deadline of each call, in seconds.")
    var timeout = 30

    func validate() throws {
        guard GRPCTarget(address) != nil else { throw ValidationError("no address: \(address)") }
        guard soakIterations > 0, timeout > 0 else {
            throw ValidationError("--soak-iterations and --timeout are at least 1")
        }
    }

    func run() async throws {
        guard let target = GRPCTarget(address) else { throw ExitCode.validationFailure }
        var options = GRPCChannelOptions()
        if let tlsAuthority {
            options.tls.roots = try NIOSSLCertificate.fromPEMFile(tlsAuthority)
        }
        let player = CasePlayer(
            target: target, options: options, compression: compression,
            timeout: .seconds(timeout), soakIterations: soakIterations)
        do {
            try await player.play(testCase)
        } catch {
            let reason = String(describing: error).split(whereSeparator: \.isNewline)
            var line = "\(testCase.rawValue): \(reason.joined(separator: " "))\n"
            line.withUTF8 { _ = write(STDERR_FILENO, $0.baseAddress, $0.count) }
            throw ExitCode.failure
        }
    }
}

private func readCompression(_ name: String) throws -> CompressionAlgorithm {
    guard let algorithm = CompressionAlgorithm(rawValue: name) else {
        throw ValidationError("messages cannot be compressed by \(name)")
    }
    return algorithm
}
