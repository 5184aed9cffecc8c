// SetCordon: refuses new processes, or accepts them again.

import GRPCWire
import NIOPosix
import ProcgateInternal
import ProcgateV1
import Protobuf

extension Worker {
    func setCordon(_ call: ServerCall, _ caller: Caller) async throws(GRPCStatus) {
        let request = try await call.request(SetCordonRequest.self)
        try await keepCordon(request.cordoned)
        _ = try await command(.cordon(Cordon.with { $0.on = request.cordoned }))
        try await call.send(SetCordonResponse())
    }

    /// In the state directory, so that it outlives gateway and supervisor. On a thread that may
    /// wait for the file system.
    private func keepCordon(_ isOn: Bool) async throws(GRPCStatus) {
        let file = cordonFile
        do {
            try await NIOThreadPool.singleton.runIfActive { try file.keep(isOn) }
        } catch {
            throw .refusal(.supervisorUnavailable, "cannot keep the cordon: \(error)")
        }
    }
}
