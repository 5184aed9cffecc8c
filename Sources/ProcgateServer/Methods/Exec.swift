// Exec: runs a command and streams what it does.

import GRPCWire
import ProcgateInternal
import ProcgateV1
import Protobuf
import SupervisorLink

extension Worker {
    func exec(_ call: ServerCall, _ caller: Caller) async throws(GRPCStatus) {
        let request = try await call.request(ExecRequest.self) { bytes throws(GRPCStatus) in
            try Self.checkArguments(of: bytes, at: [1])
        }
        var start = try start(request.process, key: request.requestKey, for: caller)
        start.stdin = request.stdinData.isEmpty ? .null : .data
        start.stdinData = request.stdinData
        start.held = true
        start.follow = true
        start.joinOnly = request.afterSeq > 0
        start.policy = request.onDisconnect == .keep ? .keep : .kill

        let first = request.afterSeq == .max ? .max : request.afterSeq + 1
        let owned = try await startOwned(start, from: first, by: call)
        call.note = owned.reader?.log.process.id
        try stream(owned, to: call)
    }

    /// Streams an owned process to its end; the ownership ends as the call does.
    func stream(
        _ owned: OwnedProcess, to call: ServerCall, whenOver: @escaping () -> Void = {}
    ) throws(GRPCStatus) {
        guard let reader = owned.reader else {
            owned.end(of: call)
            throw Self.unexpectedReply
        }
        var options = OutputSource.Options()
        options.announcesStart = true
        options.queued = owned.queued
        stream(reader, options, to: call) { status in
            if status.code == .ok { owned.complete() } else { owned.end(of: call) }
            whenOver()
        }
    }

    /// Leaves the call to the log: it is over when the last event is on its way.
    func stream(
        _ reader: LogReader, _ options: OutputSource.Options, to call: ServerCall,
        whenOver: @escaping (GRPCStatus) -> Void
    ) {
        var options = options
        options.compresses = call.compressesMessages
        let source = OutputSource(
            reader: reader, options: options, wake: { call.wake() },
            encode: { call.framed($0) })
        source.onCutOff = { [unowned call] isWithinMessage in
            call.fail(.linkLost, isWithinMessage: isWithinMessage)
        }
        keepAlive(source)
        call.handOver(source, status: { source.failure ?? .ok }) { status in
            self.forget(source)
            whenOver(status)
        }
    }
}
