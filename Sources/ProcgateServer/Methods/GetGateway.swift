// GetGateway: the gateway's version, limits and abilities.

import GRPCWire
import ProcgateV1
import Protobuf

extension Worker {
    func getGateway(_ call: ServerCall, _ caller: Caller) async throws(GRPCStatus) {
        _ = try await call.request(GetGatewayRequest.self)
        let link = try liveLink()
        let facts = link.facts
        let response = GetGatewayResponse.with {
            $0.version = policy.version
            $0.instanceId = facts.instanceId
            $0.limitsEnforced = facts.limitsEnforced
            $0.maxRunning = facts.maxRunning
            $0.maxQueued = facts.maxQueued
            $0.maxMessageBytes = UInt64(clamping: policy.maxMessageBytes)
            $0.retainBytes = facts.retainBytes
            $0.retainMs = facts.retainMs
            $0.node = policy.nodeName
            $0.cordoned = link.admission.cordoned
            $0.keepAliveMs = UInt64(clamping: policy.keepAlive.nanoseconds / 1_000_000)
        }
        try await call.send(response)
    }
}
