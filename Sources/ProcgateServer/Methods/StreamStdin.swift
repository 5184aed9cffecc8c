// StreamStdin: a large or unending input; the caller is held back to what the process
// reads, since the next message is taken only when the one before it was written.

import GRPCWire
import ProcgateV1
import Protobuf

extension Worker {
    func streamStdin(_ call: ServerCall, _ caller: Caller) async throws(GRPCStatus) {
        guard let first = try await call.next(StreamStdinRequest.self) else {
            throw GRPCStatus(.invalidArgument, "the stream has no message")
        }
        call.note = first.processId
        var writer = StdinWriter(processID: first.processId)
        if case .offset(let offset) = first.position { writer.offset = offset }
        var message = first
        var bytes: UInt64 = 0
        while true {
            bytes = try await write(message.data, eof: message.eof, by: &writer)
            guard let next = try await call.next(StreamStdinRequest.self) else { break }
            message = next
        }
        try await call.send(StreamStdinResponse.with { $0.stdinBytes = bytes })
    }
}
