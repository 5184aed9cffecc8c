// Wait: the result once the process has ended, with its retained output.

import GRPCWire
import NIOCore
import ProcgateInternal
import ProcgateV1
import Protobuf
import SupervisorLink

extension Worker {
    /// Under the 4 MiB that gRPC clients take by default.
    private static let defaultOutput: UInt64 = 3 << 20
    /// The answer is one message: what clients can be made to take.
    private static let mostOutput: UInt64 = 64 << 20
    /// An answer with more output is sent from where the output lies.
    private static let mostCopied = 64 << 10

    func wait(_ call: ServerCall, _ caller: Caller) async throws(GRPCStatus) {
        let request = try await call.request(WaitRequest.self)
        call.note = request.processId
        if let known = endedProcess(request.processId)?.process, !known.hasPrinted {
            let result = ProcessResult(of: known)
            return try await call.send(WaitResponse.with { $0.result = result })
        }
        let following = try await ended(request)
        let process = following.log.process
        let bytes = request.maxOutputBytes == 0 ? Self.defaultOutput : request.maxOutputBytes
        let limit = Int(min(bytes, Self.mostOutput))
        let reader = LogReader(
            following.log, from: following.started.log?.firstSeq ?? 1, owner: nil)
        let output = RetainedOutput(newest: limit, of: reader)
        if output.byteCount <= Self.mostCopied || call.compressesMessages {
            defer { reader.close() }
            try await send(output.byteCount, of: reader, newest: limit, by: call)
        } else {
            call.hold(following)
            stream(ProcessResult(of: process, with: output), output, of: reader, to: call)
        }
    }

    /// With the output in it, as it is retained when there is room for it.
    private func send(
        _ byteCount: Int, of reader: LogReader, newest limit: Int, by call: ServerCall
    ) async throws(GRPCStatus) {
        let first = reader.nextSeq
        // More than that is the process itself, which is mostly small.
        let likely = byteCount + 1024
        try await call.send(expecting: likely) { () async throws(GRPCStatus) -> WaitResponse in
            reader.skip(to: first)
            let output = RetainedOutput(newest: limit, of: reader)
            var result = ProcessResult(of: reader.log.process, with: output)
            guard output.copy(from: reader, into: &result) else { throw .outputDropped }
            return WaitResponse.with { $0.result = result }
        }
    }

    private func stream(
        _ result: ProcessResult, _ output: RetainedOutput, of reader: LogReader,
        to call: ServerCall
    ) {
        let source = ResultSource(result, output, of: reader, by: call)
        call.handOver(source, status: { source.failure ?? .ok }) { _ in reader.close() }
    }

    /// Waits for the end. Throws WAIT_TIMED_OUT after the request's timeout; 0 is none. The log
    /// comes with the reply, and stays readable should the supervisor have nothing more to do.
    private func ended(_ request: WaitRequest) async throws(GRPCStatus) -> Following {
        let link = try liveLink()
        let wait = PendingWait()
        let await_ = Await.with { $0.processId = request.processId }
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                wait.call = link.follow(.await(await_)) { [self] following in
                    if case .success(let following) = following {
                        remember(following.log.process)
                    }
                    continuation.resume(returning: following)
                }
                guard request.timeoutMs > 0 else { return }
                let time = TimeAmount.milliseconds(
                    Int64(clamping: min(request.timeoutMs, 1 << 40)))
                wait.timer = eventLoop.assumeIsolated().scheduleTask(in: time) {
                    wait.timedOut = true
                    link.abandonWaiting(wait.call)
                }
            }
        } onCancel: {
            eventLoop.execute { link.abandonWaiting(wait.call) }
        }
        wait.timer?.cancel()
        do throws(SupervisorError) {
            return try result.get()
        } catch {
            guard wait.timedOut, case .abandoned = error else { throw .supervisor(error) }
            throw .refusal(
                .waitTimedOut,
                "the process still runs after \(request.timeoutMs) ms of waiting")
        }
    }
}

extension Process {
    fileprivate var hasPrinted: Bool { stdoutBytes > 0 || stderrBytes > 0 }
}

extension ProcessResult {
    fileprivate init(of process: Process) {
        self.init()
        self.process = process
        lastSeq = process.lastSeq
    }

    fileprivate init(of process: Process, with output: RetainedOutput) {
        self.init(of: process)
        // Both counters are the supervisor's own: they cannot run over together.
        outputTruncated =
            UInt64(output.byteCount) < process.stdoutBytes &+ process.stderrBytes
    }
}

/// Confined to the call's event loop, where it is made, timed and abandoned.
private final class PendingWait: @unchecked Sendable {
    var call: UInt64 = 0
    var timer: Scheduled<Void>?
    var timedOut = false
}
