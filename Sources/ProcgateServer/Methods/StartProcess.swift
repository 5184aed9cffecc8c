// StartProcess: a process that outlives the call.

import GRPCWire
import ProcgateInternal
import ProcgateV1
import Protobuf

extension Worker {
    func startProcess(_ call: ServerCall, _ caller: Caller) async throws(GRPCStatus) {
        let request = try await call.request(StartProcessRequest.self) { bytes throws(GRPCStatus) in
            try Self.checkArguments(of: bytes, at: [1])
        }
        var start = try startCommand(request, for: caller)
        if let deadline = call.deadline { start.expiresAtNs = deadline.uptimeNanoseconds }
        let command = Command.Kind.start(start)
        let charge = call.messageCharge
        let reply = try await reply { link, completion in
            link.send(command, keeping: charge, completion: completion)
        }
        guard case .started(let started) = reply, let process = started.process else {
            throw Self.unexpectedReply
        }
        call.note = process.id
        call.releaseMessage()
        try await send(process, by: call) { process in
            StartProcessResponse.with { $0.process = process }
        }
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
