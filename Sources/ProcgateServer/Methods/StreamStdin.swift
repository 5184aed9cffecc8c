// StreamStdin: a large or unending input; the caller is held back to what the process
// reads, since the next message is taken only when the one before it was written.

import GRPCWire
import ProcgateV1
import Protobuf

extension Worker {
    func streamStdin(_ call: ServerCall, _ caller: Caller) async throws(GRPCStatus) {
        guard
            let (first, firstData) = try await call.next(
                StreamStdinRequest.self, detaching: Self.dataField)
        else { throw .refusal(.requestInvalid, "the stream ended without a message") }
        call.note = first.processId
        var writer = StdinWriter(processID: first.processId)
        if case .offset(let offset) = first.position { writer.offset = offset }
        var bytes = try await write(
            firstData, eof: first.eof, by: &writer, keeping: call.messageCharge)
        while let (message, data) = try await call.next(
            StreamStdinRequest.self, detaching: Self.dataField)
        {
            bytes = try await write(
                data, eof: message.eof, by: &writer, keeping: call.messageCharge)
        }
        try await call.send(StreamStdinResponse.with { $0.stdinBytes = bytes })
    }
}
