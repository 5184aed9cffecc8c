// The command line of the server that gRPC's interoperability tests call, alone or from foreign
// suites. Knows no method of the service.

import ArgumentParser
import GRPCWire
import Glibc
import NIOCore
import NIOPosix

@main
struct InteropServer: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "interop-server",
        abstract: "Serve grpc.testing.TestService on the loopback.")

    @Option(help: "The port; 0 takes a free one.")
    var port = 0

    @Option(help: "PEM file of the certificate and its chain; without it there is no TLS.")
    var tlsCertificate: String?

    @Option(help: "PEM file of the certificate's key.")
    var tlsKey: String?

    @Option(help: "Largest message taken or made, in bytes.")
    var maxMessageBytes = 16 * 1024 * 1024

    func validate() throws {
        guard (0...65535).contains(port) else { throw ValidationError("--port is 0 to 65535") }
        guard (tlsCertificate == nil) == (tlsKey == nil) else {
            throw ValidationError("--tls-certificate and --tls-key go together")
        }
        guard (1...Int(Int32.max)).contains(maxMessageBytes) else {
            throw ValidationError("--max-message-bytes is 1 to \(Int32.max)")
        }
    }

    func run() async throws {
        var configuration = ServerConfiguration()
        configuration.limits.messageBytes = maxMessageBytes
        let service = TestServiceMethods(largestPayload: maxMessageBytes)
        let server = try await GRPCServer.start(
            [Listener(.tcp(host: "127.0.0.1", port: port), tls: try loadTLS())],
            configuration: configuration, group: MultiThreadedEventLoopGroup.singleton
        ) { _ in ServiceRouter(service.all) }
        var line = "listening on \(server.addresses[0])\n"
        line.withUTF8 { _ = write(STDOUT_FILENO, $0.baseAddress, $0.count) }
        // Until a signal ends the program.
        while true { try await Task.sleep(for: .seconds(3600)) }
    }

    private func loadTLS() throws -> ServerTLS? {
        guard let tlsCertificate, let tlsKey else { return nil }
        return try ServerTLS(
            ServerTLS.Material(certificateFile: tlsCertificate, keyFile: tlsKey))
    }
}
