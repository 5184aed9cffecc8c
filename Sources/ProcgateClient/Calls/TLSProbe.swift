// Whether what failed without TLS would have worked with it.

internal import GRPCWire
internal import NIOCore

enum TLSProbe {
    /// A server that speaks TLS answers its greeting in less.
    private static let timeout = Duration.seconds(2)

    /// Whether `error` comes from speaking without TLS to a server that has it. Asks the server, and
    /// sends it no token.
    static func explains(
        _ error: SandboxError, of target: GRPCTarget, group: (any EventLoopGroup)?
    ) async -> Bool {
        guard case .http(let host, let port) = target,
            [.gatewayUnavailable, .notGateway].contains(error.reason)
        else { return false }
        let name = host.contains(":") ? "[\(host)]" : host
        guard
            let channel = try? makeChannel(
                "https://\(name):\(port)", tls: nil, connectTimeout: timeout, group: group)
        else { return false }
        let calls = GatewayCalls(channel: channel, token: nil, patience: .zero)
        defer { Task { await calls.close() } }
        do {
            try await calls.greet(for: .zero)
            return true
        } catch {
            switch error.reason {
            case .certificateUntrusted, .tlsFailed, .tokenInvalid, .permissionDenied: return true
            default: return false
            }
        }
    }
}
