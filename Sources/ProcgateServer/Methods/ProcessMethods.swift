// The table of the contract's methods: which function answers which path. The functions
// are in files of their own, one for each rpc.

import GRPCWire
import ProcgateV1
import Protobuf

extension Worker {
    typealias Answer =
        @Sendable (Worker) -> @Sendable (ServerCall, Caller) async throws(GRPCStatus) -> Void

    /// Every method of the service, in the contract's order.
    static let processMethods: [(path: String, kind: StreamingKind, answer: Answer)] = [
        (ProcessService.exec.path, ProcessService.exec.kind, Worker.exec),
        (ProcessService.startProcess.path, ProcessService.startProcess.kind, Worker.startProcess),
        (ProcessService.getProcess.path, ProcessService.getProcess.kind, Worker.getProcess),
        (
            ProcessService.listProcesses.path, ProcessService.listProcesses.kind,
            Worker.listProcesses
        ),
        (
            ProcessService.watchProcesses.path, ProcessService.watchProcesses.kind,
            Worker.watchProcesses
        ),
        (ProcessService.streamOutput.path, ProcessService.streamOutput.kind, Worker.streamOutput),
        (ProcessService.writeStdin.path, ProcessService.writeStdin.kind, Worker.writeStdin),
        (ProcessService.streamStdin.path, ProcessService.streamStdin.kind, Worker.streamStdin),
        (ProcessService.attach.path, ProcessService.attach.kind, Worker.attach),
        (
            ProcessService.resizeTerminal.path, ProcessService.resizeTerminal.kind,
            Worker.resizeTerminal
        ),
        (ProcessService.signal.path, ProcessService.signal.kind, Worker.signal),
        (ProcessService.stopProcess.path, ProcessService.stopProcess.kind, Worker.stopProcess),
        (ProcessService.wait.path, ProcessService.wait.kind, Worker.wait),
        (
            ProcessService.deleteProcess.path, ProcessService.deleteProcess.kind,
            Worker.deleteProcess
        ),
        (ProcessService.getGateway.path, ProcessService.getGateway.kind, Worker.getGateway),
        (ProcessService.setCordon.path, ProcessService.setCordon.kind, Worker.setCordon),
    ]
}
