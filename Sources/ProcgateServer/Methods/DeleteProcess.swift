// DeleteProcess: forgets an ended process and frees its output.

import GRPCWire
import ProcgateInternal
import ProcgateV1
import Protobuf

extension Worker {
    func deleteProcess(_ call: ServerCall, _ caller: Caller) async throws(GRPCStatus) {
        let request = try await call.request(DeleteProcessRequest.self)
        call.note = request.processId
        let delete = Delete.with { $0.processId = request.processId }
        _ = try await command(.delete(delete))
        try await call.send(DeleteProcessResponse())
    }
}
