// StartProcess: a process that outlives the call.

import GRPCWire
import ProcgateInternal
import ProcgateV1
import Protobuf

extension Worker {
    func startProcess(_ call: ServerCall, _ caller: Caller) async throws(GRPCStatus) {
        let request = try await call.request(StartProcessRequest.self)
        var start = try startCommand(request, for: caller)
        if let deadline = call.deadline { start.expiresAtNs = deadline.uptimeNanoseconds }
        guard case .started(let started) = try await command(.start(start)) else {
            throw Self.unexpectedReply
        }
        call.note = started.process?.id
        try await call.send(StartProcessResponse.with { $0.process = started.process })
    }

    /// A start whose process depends on nobody.
    func startCommand(
        _ request: StartProcessRequest, for caller: Caller
    ) throws(GRPCStatus) -> Start {
        var start = try start(request.process, key: request.requestKey, for: caller)
        start.stdin = request.noStdin ? .null : .pipe
        start.held = request.process?.output?.holdWhenFull ?? false
        start.policy = .none
        return start
    }
}
