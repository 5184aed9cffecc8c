// Signal: to the group, the command's own process, or the whole tree.

import GRPCWire
import ProcgateInternal
import ProcgateV1
import Protobuf

extension Worker {
    func signal(_ call: ServerCall, _ caller: Caller) async throws(GRPCStatus) {
        let request = try await call.request(SignalRequest.self)
        call.note = request.processId
        let process = try await send(request.signal, to: request.processId, request.scope)
        try await send(process, by: call) { process in
            SignalResponse.with { $0.process = process }
        }
    }

    func send(
        _ signal: String, to processID: String, _ scope: SignalScope
    ) async throws(GRPCStatus) -> Process {
        let signal = SendSignal.with {
            $0.processId = processID
            $0.signal = signal
            $0.scope = scope
        }
        return try await askForProcess(.sendSignal(signal))
    }
}
