// GetProcess: a process as it stands.

import GRPCWire
import ProcgateInternal
import ProcgateV1
import Protobuf

extension Worker {
    func getProcess(_ call: ServerCall, _ caller: Caller) async throws(GRPCStatus) {
        let request = try await call.request(GetProcessRequest.self)
        call.note = request.processId
        if let known = endedProcess(request.processId) {
            return try await call.send(encoded: known.response)
        }
        let process = try await process(request.processId)
        if try call.sendNow(GetProcessResponse.with({ $0.process = process })) { return }
        try await send(process, by: call) { process in
            GetProcessResponse.with { $0.process = process }
        }
    }
}
