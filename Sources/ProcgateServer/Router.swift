// Which services a worker answers, and who may call them.

import GRPCProtos
import GRPCWire
import NIOCore
import ProcgateV1
import Protobuf

extension Worker {
    /// The methods of one event loop. All but health need a known caller.
    func router(
        _ authentication: Authentication, _ health: HealthService
    ) -> ServiceRouter {
        var methods = health.methods.map { $0.limitingStrangers(by: authentication) }
        for method in Self.processMethods {
            let answer = method.answer(self)
            methods.append(
                ServerMethod(path: method.path, kind: method.kind) { [self] call in
                    let caller = try caller(of: call, authentication)
                    let instance = link.flatMap { $0.isLost ? nil : $0.facts.instanceId }
                    try policy.node.check(call.metadata, instance: instance)
                    do throws(GRPCStatus) {
                        try await answer(call, caller)
                    } catch {
                        if error.mayBeAcceptedElsewhere {
                            call.trailers.append(
                                GRPCStatus.pushback.field, GRPCStatus.pushback.milliseconds)
                        }
                        throw policy.node.refine(
                            error, processID: call.note, instance: instance)
                    }
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
        return ServiceRouter(methods)
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
            throw .refusal(
                .authenticationThrottled, "too many failed authentications; try again later")
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
}
