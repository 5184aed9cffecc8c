// Output that nobody keeps: what the descendants of an ended command print. It is read, so that
// they are neither held up nor killed by SIGPIPE, and dropped.

import CLinux
import LinuxIO
import OutputLog

/// The pipes of an ended command that a descendant holds open.
struct DroppedOutput {
    var pipes: [OutputPipe]
}

extension Supervisor {
    /// The pipes that are open at the end of the command stay open. A terminal does not: its
    /// session has ended with the command, and its descendants were told so by SIGHUP.
    func dropFurtherOutput(of process: SupervisedProcess) {
        let pipes = process.outputs.filter { !$0.isTerminal }
        // As many as may run; beyond them SIGPIPE is what an ended reader means.
        guard !pipes.isEmpty, shutdown == nil, droppedOutput.count < configuration.maxRunning
        else { return }
        process.stdout = process.stdout.flatMap { $0.isTerminal ? $0 : nil }
        process.stderr = nil
        droppedOutput[process.serial] = DroppedOutput(pipes: pipes)
        for pipe in pipes {
            pipe.stash = []
            pipe.state = .idle
            // Whatever it was polled for, what is there now is told once more.
            let source = pipe.stream == .stdout ? EventSource.stdout : .stderr
            let polled: Void? = try? poller.modify(
                pipe.descriptor.raw, [.input, .edges], token: source.token(process.serial))
            if polled == nil { close(pipe, of: process.serial) }
        }
    }

    /// Something has come, or the last writer has gone.
    func outputIsDropped(_ serial: UInt64, _ stream: OutputStreamKind) {
        guard let pipe = droppedPipe(serial, stream), pipe.state != .queued else { return }
        pipe.state = .queued
        runQueue.append((serial, stream))
    }

    func dropOutput(_ serial: UInt64, _ stream: OutputStreamKind) {
        guard let pipe = droppedPipe(serial, stream) else { return }
        pipe.state = .idle
        switch clinux_discard(pipe.descriptor.raw, nullDevice.raw) {
        case .max: return
        case 0: close(pipe, of: serial)
        case let count where count > 0: outputIsDropped(serial, stream)
        default: close(pipe, of: serial)
        }
    }

    private func droppedPipe(_ serial: UInt64, _ stream: OutputStreamKind) -> OutputPipe? {
        droppedOutput[serial]?.pipes.first { $0.stream == stream }
    }

    private func close(_ pipe: OutputPipe, of serial: UInt64) {
        poller.remove(pipe.descriptor.raw)
        droppedOutput[serial]?.pipes.removeAll { $0 === pipe }
        if droppedOutput[serial]?.pipes.isEmpty == true { droppedOutput[serial] = nil }
    }
}
