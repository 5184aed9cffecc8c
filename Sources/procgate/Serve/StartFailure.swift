// Why a gateway did not start, in words: which address it was, where there are several.

import GRPCWire
import Glibc
import NIOCore
import NIOPosix
import ProcgateServer

enum StartFailure {
    static func explanation(
        of error: any Error, _ configuration: GatewayConfiguration
    ) async -> String {
        if let error = error as? GatewayError { return error.description }
        guard let reason = cause(of: error) else { return "cannot start: \(error)" }
        // NIO's error does not say whose it is: each is tried once more. Metrics come first: where
        // theirs was the one, the others are still listened on, by this very program.
        var addresses = configuration.listen
        if let metrics = configuration.metricsListen { addresses.insert(metrics, at: 0) }
        for address in addresses {
            if let failure = await attempt(address) {
                return "cannot listen on \(address): \(failure)"
            }
        }
        let all = addresses.map(\.description).joined(separator: ", ")
        return "cannot listen on \(all): \(reason)"
    }

    /// Why `address` cannot be listened on; `nil` where it can.
    private static func attempt(_ address: ListenAddress) async -> String? {
        let group = MultiThreadedEventLoopGroup.singleton
        let server = ServerBootstrap(group: group)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
        do {
            switch address {
            case .tcp(let host, let port):
                let channel = try await server.bind(host: host, port: port).get()
                try await channel.close()
            case .unix(let path):
                let client = ClientBootstrap(group: group)
                if let answered = try? await client.connect(unixDomainSocketPath: path).get() {
                    try? await answered.close()
                    return text(EADDRINUSE)
                }
                let channel = try await server.bind(
                    unixDomainSocketPath: path, cleanupExistingSocketFile: true
                ).get()
                try await channel.close()
                unlink(path)
            }
            return nil
        } catch {
            return cause(of: error) ?? "\(error)"
        }
    }

    private static func cause(of error: any Error) -> String? {
        switch error {
        case let error as IOError: text(error.errnoCode)
        case let error as SocketAddressError.UnknownHost: error.errorDescription
        case is UnixDomainSocketPathWrongType:
            "what is at the socket's path is no socket; remove it"
        default: nil
        }
    }

    private static func text(_ code: Int32) -> String { String(cString: strerror(code)) }
}
