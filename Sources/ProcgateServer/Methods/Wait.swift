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
        let process: Process
        if let known = endedProcess(request.processId) {
            process = known.process
        } else {
            process = try await ended(request.processId, within: request.timeoutMs)
            remember(process)
        }
        let limit = request.maxOutputBytes == 0 ? Self.defaultOutput : request.maxOutputBytes
        let result = try await result(of: process, atMost: Int(min(limit, Self.mostOutput)))
        try await call.send(WaitResponse.with { $0.result = result })
    }

    /// Waits for the end. Throws WAIT_TIMED_OUT after `milliseconds`; 0 is none.
    private func ended(
        _ processID: String, within milliseconds: UInt64
    ) async throws(GRPCStatus) -> Process {
        let await_ = Await.with { $0.processId = processID }
        guard milliseconds > 0 else { return try await processCommand(.await(await_)) }
        let link = try liveLink()
        let wait = PendingWait()
        let limit = TimeAmount.milliseconds(Int64(clamping: min(milliseconds, 1 << 40)))
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                wait.call = link.send(.await(await_)) { continuation.resume(returning: $0) }
                wait.timer = eventLoop.assumeIsolated().scheduleTask(in: limit) {
                    wait.timedOut = true
                    link.abandonWaiting(wait.call)
                }
            }
        } onCancel: {
            eventLoop.execute { link.abandonWaiting(wait.call) }
        }
        wait.timer?.cancel()
        do throws(SupervisorError) {
            guard case .process(let reply) = try result.get(), let process = reply.process else {
                throw SupervisorError.protocolViolation("a wait without its process")
            }
            return process
        } catch {
            guard wait.timedOut, case .abandoned = error else { throw .supervisor(error) }
            throw .refusal(
                .waitTimedOut, "the process still runs after \(milliseconds) ms of waiting")
        }
    }

    /// The process with the newest `limit` bytes of what is retained of its output.
    private func result(
        of process: Process, atMost limit: Int
    ) async throws(GRPCStatus) -> ProcessResult {
        var result = ProcessResult()
        result.process = process
        result.lastSeq = process.lastSeq
        guard process.stdoutBytes > 0 || process.stderrBytes > 0 else { return result }
        let following = try await follow(process.id)
        let reader = LogReader(
            following.log, from: following.started.log?.firstSeq ?? 1, owner: nil)
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
