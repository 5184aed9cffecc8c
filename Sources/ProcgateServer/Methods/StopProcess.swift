// StopProcess: TERM, then KILL; returns once the whole tree is gone.

import GRPCWire
import ProcgateInternal
import ProcgateV1
import Protobuf

extension Worker {
    func stopProcess(_ call: ServerCall, _ caller: Caller) async throws(GRPCStatus) {
        let request = try await call.request(StopProcessRequest.self)
        call.note = request.processId
        var stop = Stop()
        stop.processId = request.processId
        if case .graceMs(let grace) = request.grace {
            stop.hasGrace = true
            stop.graceMs = grace
        }
        let process = try await processCommand(.stop(stop))
        try await send(process, by: call) { process in
            StopProcessResponse.with { $0.process = process }
        }
    }
}
