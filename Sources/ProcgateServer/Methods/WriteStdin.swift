// WriteStdin: returns once every byte was taken by the process's stdin.

import GRPCWire
import ProcgateInternal
import ProcgateV1
import Protobuf

extension Worker {
    /// Bytes of stdin in one command: the supervisor never queues more for one writer.
    static let stdinPiece = 262_144

    func writeStdin(_ call: ServerCall, _ caller: Caller) async throws(GRPCStatus) {
        let request = try await call.request(WriteStdinRequest.self)
        call.note = request.processId
        var writer = StdinWriter(processID: request.processId)
        if case .offset(let offset) = request.position { writer.offset = offset }
        let bytes = try await write(request.data, eof: request.eof, by: &writer)
        try await call.send(WriteStdinResponse.with { $0.stdinBytes = bytes })
    }

    /// Writes `data` in pieces, each when the one before it was taken. Returns how much
    /// of stdin was accepted in all.
    func write(
        _ data: [UInt8], eof: Bool, by writer: inout StdinWriter
    ) async throws(GRPCStatus) -> UInt64 {
        var rest = data[...]
        while true {
            let piece = rest.prefix(Self.stdinPiece)
            rest = rest.dropFirst(piece.count)
            let command = writer.command(Array(piece), eof: eof && rest.isEmpty)
            guard case .stdin(let reply) = try await self.command(.writeStdin(command)) else {
                throw Self.unexpectedReply
            }
            if rest.isEmpty { return reply.stdinBytes }
        }
    }
}

/// Where a caller's writes go, and at which offset the next one begins.
struct StdinWriter {
    var processID: String
    /// Set where the caller counts its bytes.
    var offset: UInt64?
    var refusesTerminalEnd = false

    /// The next command. Offsets that run past 64 bits stay there: beyond what was
    /// accepted, as the supervisor will say.
    mutating func command(_ data: [UInt8], eof: Bool) -> WriteStdin {
        var command = WriteStdin()
        command.processId = processID
        command.data = data
        command.eof = eof
        command.refuseTerminalEof = refusesTerminalEnd
        if let offset {
            command.hasOffset = true
            command.offset = offset
            let (next, overflows) = offset.addingReportingOverflow(UInt64(data.count))
            self.offset = overflows ? .max : next
        }
        return command
    }
}
