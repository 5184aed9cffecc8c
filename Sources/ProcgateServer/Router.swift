// Which services a worker answers, and who may call them.

import GRPCProtos
import GRPCWire
import NIOCore
import ProcgateV1
import Protobuf

extension Worker {
    /// The methods of one event loop. All but health need a known caller.
    func router(
        _ authentication: Authentication, _ health: HealthService, _ metrics: GatewayMetrics?
    ) -> ServiceRouter {
        var methods = health.methods.map { $0.limitingStrangers(by: authentication) }
        for method in Self.processMethods {
            let answer = method.answer(self)
            methods.append(
                ServerMethod(path: method.path, kind: method.kind) { [self] call in
                    try await answer(call, caller(of: call, authentication))
                })
        }
        let reflection = Reflection.gateway
        for path in [
            GRPCReflection.ServerReflection.serverReflectionInfo.path,
            GRPCReflectionAlpha.ServerReflection.serverReflectionInfo.path,
        ] {
            methods.append(
                ServerMethod(
                    path: path, kind: .bidirectional, maxMessageBytes: Reflection.requestBytes
                ) { [self] call in
                    _ = try caller(of: call, authentication)
                    try await reflection.answer(call)
                })
        }
        guard let metrics else { return ServiceRouter(methods) }
        return ServiceRouter(methods.map { $0.counted(by: metrics) })
    }

    private func caller(
        of call: ServerCall, _ authentication: Authentication
    ) throws(GRPCStatus) -> Caller {
        do throws(GRPCStatus) {
            let caller = try authentication.caller(of: call)
            call.principal = caller.name
            return caller
        } catch {
            guard failures.fails(call.peer) else { throw error }
            throw GRPCStatus(.resourceExhausted, "too many failed authentications; try later")
        }
    }
}

extension ServerMethod {
    /// Streams of strangers on one connection: a load balancer has one or two.
    private static let strangersStreams = 16

    /// The same method, of which a caller without a token has few calls on a connection.
    fileprivate func limitingStrangers(by authentication: Authentication) -> ServerMethod {
        let handler = handler
        return ServerMethod(path: path, kind: kind, maxMessageBytes: maxMessageBytes) { call in
            guard
                authentication.knowsCaller(of: call)
                    || call.enterAsGuest(limit: Self.strangersStreams)
            else {
                throw GRPCStatus(
                    .resourceExhausted,
                    "more than \(Self.strangersStreams) calls without a token on one connection")
            }
            try await handler(call)
        }
    }

    /// The same method, whose calls count as open streams while they run.
    fileprivate func counted(by metrics: GatewayMetrics) -> ServerMethod {
        let handler = handler
        return ServerMethod(path: path, kind: kind, maxMessageBytes: maxMessageBytes) { call in
            metrics.streamOpened()
            defer { metrics.streamClosed() }
            try await handler(call)
        }
    }
}
