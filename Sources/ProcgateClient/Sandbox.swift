// The library's entry: a gateway, and the commands that run there.

internal import GRPCWire
public import NIOCore
internal import ProcgateV1

/// A gateway: runs commands and controls processes on its host.
///
/// ```swift
/// let sandbox = try await Sandbox.connect("http://127.0.0.1:7070", token: token)
/// let result = try await sandbox.exec("node -v")
/// print(result.stdout)
/// await sandbox.close()
/// ```
///
/// All calls share one connection; only calls beyond what the gateway takes on one have another.
/// When it or the gateway is lost, the client reconnects and goes on: nothing is run twice and no
/// output is lost. A sandbox that is dropped, with everything it handed out, closes its
/// connection.
public final class Sandbox: Sendable {
    let calls: GatewayCalls

    /// The most output that `exec` collects unless it is told otherwise: 64 MiB.
    public static let defaultMaxOutputBytes = 64 << 20

    private init(calls: GatewayCalls) {
        self.calls = calls
    }

    /// Connects to a gateway, and asks whether it is there and accepts the token.
    ///
    /// - Parameters:
    ///   - address: `http://HOST:PORT`, `https://HOST:PORT` or `unix:PATH`.
    ///   - token: What the gateway knows the caller by, printable ASCII; a unix socket needs none.
    ///     White space around it is dropped; an empty one is none.
    ///   - tokenFile: The path of a file with that token: its first line that is neither empty nor
    ///     a comment is `TOKEN` or `NAME TOKEN`. Read once, and only where there is no `token`.
    ///   - tls: For `https`: whom to trust, and who the caller is.
    ///   - reconnectTimeout: How long a call goes on without an answer when the connection or the
    ///     gateway is lost. The command of an `exec` is killed by the gateway where its caller
    ///     stays away for longer than the gateway's own resume window, 10 s unless it was told
    ///     otherwise: then the call throws ``SandboxError/Reason/callerGone``.
    ///   - connectTimeout: How long to wait for a connection.
    ///   - group: The event loops to run on; `nil` is the process's own, shared ones.
    /// - Throws: ``SandboxError/Reason/invalidAddress``,
    ///   ``SandboxError/Reason/gatewayUnavailable``, ``SandboxError/Reason/tokenInvalid``,
    ///   ``SandboxError/Reason/permissionDenied``, ``SandboxError/Reason/notGateway``,
    ///   ``SandboxError/Reason/certificateUntrusted``, ``SandboxError/Reason/tlsFailed``,
    ///   ``SandboxError/Reason/tlsRequired``.
    public static func connect(
        _ address: String,
        token: String? = nil,
        tokenFile: String? = nil,
        tls: SandboxTLS? = nil,
        reconnectTimeout: Duration = .seconds(30),
        connectTimeout: Duration = .seconds(10),
        group: (any EventLoopGroup)? = nil
    ) async throws -> Sandbox {
        let token = try CallerToken.value(token, file: tokenFile)
        let channel = try makeChannel(
            address, tls: tls, connectTimeout: connectTimeout, group: group)
        let calls = GatewayCalls(channel: channel, token: token, patience: reconnectTimeout)
        do {
            try await calls.greet(for: min(firstPatience, reconnectTimeout))
        } catch {
            await calls.close()
            if await TLSProbe.explains(error, of: channel.target, group: group) {
                throw SandboxError(
                    .tlsRequired, "\(channel.target) speaks TLS: write https:// before it")
            }
            throw forCaller(error)
        }
        return Sandbox(calls: calls)
    }

    /// How long a gateway that does not answer is given at the first contact: a restart, but not
    /// the wait of somebody who mistyped an address.
    static let firstPatience = Duration.seconds(1)

    /// The gateway's version, limits and abilities.
    public func info() async throws -> GatewayInfo {
        do {
            return GatewayInfo(
                try await calls.unary(ProcessService.getGateway, GetGatewayRequest()))
        } catch {
            throw forCaller(error)
        }
    }

    /// The same gateways, with calls that name no process for one node of a fleet: starts,
    /// listings, watches, ``info()`` and ``setCordon(_:)``. Calls of a process reach its node by
    /// its id, whatever this is.
    ///
    /// Both share one connection: ``close()`` of either ends both.
    ///
    /// - Parameter node: the name that `procgate serve --node` gave to the gateway.
    public func on(node: String) -> Sandbox {
        Sandbox(calls: GatewayCalls(of: calls, on: node))
    }

    /// Has the gateway refuse new processes, or accept them again. Processes that run or wait go
    /// on, and every other call works.
    ///
    /// - Throws: ``SandboxError/Reason/notPermitted``, ``SandboxError/Reason/wrongNode``,
    ///   ``SandboxError/Reason/gatewayUnavailable``.
    public func setCordon(_ isOn: Bool) async throws {
        var request = SetCordonRequest()
        request.cordoned = isOn
        do {
            _ = try await calls.unary(ProcessService.setCordon, request)
        } catch {
            throw forCaller(error)
        }
    }

    /// Starting processes and finding them again.
    public var processes: Processes { Processes(calls: calls) }

    /// The process of this id. ``SandboxError/Reason/processNotFound`` where there is none.
    public func getProcess(_ id: String) async throws -> SandboxProcess {
        try await processes.get(id)
    }

    /// Ends what is open with ``SandboxError/Reason/closed``, and closes the connection. An
    /// `exec` that was under way is killed; started processes go on.
    public func close() async {
        await calls.close()
    }
}
