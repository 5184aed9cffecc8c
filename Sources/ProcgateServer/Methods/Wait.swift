// Wait: the result once the process has ended, with its retained output.

import GRPCWire
import NIOCore
import OutputLog
import ProcgateInternal
import ProcgateV1
import Protobuf
import SupervisorLink

extension Worker {
    /// Under the 4 MiB that gRPC clients take by default.
    private static let defaultOutput: UInt64 = 3 << 20
    /// The answer is one message, which is held until the caller has read it.
    private static let mostOutput: UInt64 = 64 << 20

    func wait(_ call: ServerCall, _ caller: Caller) async throws(GRPCStatus) {
        let request = try await call.request(WaitRequest.self)
        call.note = request.processId
        let result: ProcessResult
        if let known = endedProcess(request.processId)?.process, !known.hasPrinted {
            result = ProcessResult(of: known)
        } else {
            result = try await ended(request)
        }
        try await call.send(WaitResponse.with { $0.result = result })
    }

    /// Waits for the end. Throws WAIT_TIMED_OUT after the request's timeout; 0 is none.
    ///
    /// The output is read in the moment that the end is told: nothing is asked for afterwards, so
    /// that a supervisor that has nothing more to do may be gone by then.
    private func ended(_ request: WaitRequest) async throws(GRPCStatus) -> ProcessResult {
        let bytes = request.maxOutputBytes == 0 ? Self.defaultOutput : request.maxOutputBytes
        let limit = Int(min(bytes, Self.mostOutput))
        let link = try liveLink()
        let wait = PendingWait()
        let await_ = Await.with { $0.processId = request.processId }
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                wait.call = link.follow(.await(await_)) { [self] following in
                    if case .success(let following) = following {
                        remember(following.log.process)
                    }
                    continuation.resume(
                        returning: following.map { $0.result(newest: limit) })
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
}

extension Following {
    /// The process with the newest `limit` bytes of what is retained of its output. Lets go of
    /// the log.
    fileprivate func result(newest limit: Int) -> ProcessResult {
        let process = log.process
        var result = ProcessResult(of: process)
        let reader = LogReader(log, from: started.log?.firstSeq ?? 1, owner: nil)
        reader.collect(newest: limit, into: &result)
        reader.close()
        let collected = UInt64(result.stdoutData.count + result.stderrData.count)
        // Both counters are the supervisor's own: they cannot run over together.
        result.outputTruncated = collected < process.stdoutBytes &+ process.stderrBytes
        return result
    }
}

/// Confined to the call's event loop, where it is made, timed and abandoned.
private final class PendingWait: @unchecked Sendable {
    var call: UInt64 = 0
    var timer: Scheduled<Void>?
    var timedOut = false
}

extension LogReader {
    /// Reads to the end of the log, and keeps the newest `limit` bytes of both streams
    /// together.
    fileprivate func collect(newest limit: Int, into result: inout ProcessResult) {
        let start = nextSeq
        var total = 0
        forEachRecord { header, _ in total += header.dataCount }
        var excess = max(0, total - limit)
        skip(to: start)
        forEachRecord { header, data in
            let dropped = min(excess, data.count)
            excess -= dropped
            switch header.stream {
            case .stdout: result.stdoutData += data.dropFirst(dropped)
            case .stderr: result.stderrData += data.dropFirst(dropped)
            }
        }
    }

    private func forEachRecord(_ body: (RecordHeader, UnsafeRawBufferPointer) -> Void) {
        while case .bytes = place(), let header = header() {
            let record = bytes().prefix(header.recordSize).dropFirst(RecordLayout.headerSize)
            body(header, UnsafeRawBufferPointer(rebasing: record))
            advance(header.recordSize)
        }
    }
}
