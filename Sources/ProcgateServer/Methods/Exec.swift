// Exec: runs a command and streams what it does.

import GRPCWire
import ProcgateInternal
import ProcgateV1
import Protobuf
import SupervisorLink

extension Worker {
    func exec(_ call: ServerCall, _ caller: Caller) async throws(GRPCStatus) {
        let request = try await call.request(ExecRequest.self)
        var start = try start(request.process, key: request.requestKey, for: caller)
        start.stdin = request.stdinData.isEmpty ? .null : .data
        start.stdinData = request.stdinData
        start.held = true
        start.follow = true
        start.policy = request.onDisconnect == .keep ? .keep : .kill

        let first = request.afterSeq == .max ? .max : request.afterSeq + 1
        let owned = try await startOwned(start, from: first, by: call)
        call.note = owned.reader?.log.process.id
        try await stream(owned, to: call)
    }

    /// Streams an owned process to its end, and ends the ownership as the call ended.
    func stream(_ owned: OwnedProcess, to call: ServerCall) async throws(GRPCStatus) {
        defer { owned.end(of: call) }
        guard let reader = owned.reader else { throw Self.unexpectedReply }
        var options = OutputSource.Options()
        options.announcesStart = true
        options.queued = owned.queued
        try await stream(reader, options, to: call)
        owned.complete()
    }

    /// Hands the log to the call, and returns when its last event is on its way.
    func stream(
        _ reader: LogReader, _ options: OutputSource.Options, to call: ServerCall
    ) async throws(GRPCStatus) {
        var options = options
        options.compresses = call.compressesMessages
        let source = OutputSource(
            reader: reader, options: options, wake: { call.wake() },
            encode: { call.framed($0) })
        keepAlive(source)
        defer { forget(source) }
        try await call.stream(source) { source.failure == nil }
        if let failure = source.failure { throw failure }
    }
}
