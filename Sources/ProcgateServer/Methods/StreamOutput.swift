// StreamOutput: replays the retained output, then follows the process to its end.

import GRPCWire
import OutputLog
import ProcgateInternal
import ProcgateV1
import Protobuf
import SupervisorLink

extension Worker {
    func streamOutput(_ call: ServerCall, _ caller: Caller) async throws(GRPCStatus) {
        let request = try await call.request(StreamOutputRequest.self)
        call.note = request.processId
        let following = try await follow(request.processId)
        call.hold(following)
        let (reader, options) = try reader(of: following, for: request)
        stream(reader, options, to: call) { _ in reader.close() }
    }

    /// A reader that stands where the request wants it. To be closed by the caller.
    /// Throws REPLAY_WINDOW_EXPIRED where that was dropped and no gap is allowed.
    func reader(
        of following: Following, for request: StreamOutputRequest
    ) throws(GRPCStatus) -> (LogReader, OutputSource.Options) {
        let started = following.started
        // Reading makes room for a process that is held back where its spec says so.
        let reader = LogReader(following.log, from: request.fromSeq)
        let first = max(1, request.fromSeq)
        let retained = started.log?.firstSeq ?? 1
        var options = OutputSource.Options()
        options.allowsGaps = request.allowGaps
        options.droppedBefore = retained
        if first < retained, !request.allowGaps {
            reader.close()
            throw .expired(firstRetained: retained)
        }
        if request.noFollow { options.lastSeq = started.log?.lastSeq ?? 0 }
        let streams = Set(request.streams).intersection([.stdout, .stderr])
        if streams == [.stdout] { options.only = .stdout }
        if streams == [.stderr] { options.only = .stderr }
        return (reader, options)
    }
}
