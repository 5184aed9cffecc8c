// ResizeTerminal: SIGWINCH follows.

import GRPCWire
import ProcgateInternal
import ProcgateV1
import Protobuf

extension Worker {
    func resizeTerminal(_ call: ServerCall, _ caller: Caller) async throws(GRPCStatus) {
        let request = try await call.request(ResizeTerminalRequest.self)
        call.note = request.processId
        try await resize(request.processId, to: request.size ?? TerminalSize())
        try await call.send(ResizeTerminalResponse())
    }

    func resize(_ processID: String, to size: TerminalSize) async throws(GRPCStatus) {
        let resize = Resize.with {
            $0.processId = processID
            $0.size = size
        }
        _ = try await command(.resize(resize))
    }
}
