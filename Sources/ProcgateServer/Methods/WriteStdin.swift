// WriteStdin: returns once every byte was taken by the process's stdin.

import GRPCWire
import NIOCore
import ProcgateInternal
import ProcgateV1
import Protobuf

extension Worker {
    /// Bytes of stdin in one command: the supervisor never queues more for one writer.
    static let stdinPiece = 262_144

    func writeStdin(_ call: ServerCall, _ caller: Caller) async throws(GRPCStatus) {
        let (request, data) = try await call.request(
            WriteStdinRequest.self, detaching: Self.dataField)
        call.note = request.processId
        await fence.pass(call, of: caller)
        var writer = StdinWriter(processID: request.processId)
        if case .offset(let offset) = request.position { writer.offset = offset }
        let bytes = try await write(
            data, eof: request.eof, by: &writer, keeping: call.messageCharge)
        try await call.send(WriteStdinResponse.with { $0.stdinBytes = bytes })
    }

    /// The number of `data` in WriteStdinRequest and StreamStdinRequest. It is not decoded: what
    /// came in goes on as it is.
    static let dataField: UInt32 = 2

    /// Writes `data` in pieces, each when the one before it was taken. Returns how much
    /// of stdin was accepted in all.
    /// - Parameter charge: what counts `data`, which a piece of it keeps in memory as a whole.
    func write(
        _ data: ByteBuffer, eof: Bool, by writer: inout StdinWriter,
        keeping charge: MemoryCharge?
    ) async throws(GRPCStatus) -> UInt64 {
        var rest = data
        while true {
            let count = min(rest.readableBytes, Self.stdinPiece)
            let piece = rest.getSlice(at: rest.readerIndex, length: count) ?? ByteBuffer()
            let command = writer.command(count, eof: eof && rest.readableBytes == count)
            let kind = try await reply { link, completion in
                link.send(
                    .writeStdin(command), attaching: piece, keeping: charge,
                    completion: completion)
            }
            guard case .stdin(let reply) = kind, Int(reply.taken) <= count else {
                throw Self.unexpectedReply
            }
            let taken = reply.again ? Int(reply.taken) : count
            rest.moveReaderIndex(forwardBy: taken)
            writer.advance(taken)
            if !reply.again, rest.readableBytes == 0 { return reply.stdinBytes }
        }
    }
}

/// Where a caller's writes go, and at which offset the next one begins.
struct StdinWriter {
    var processID: String
    /// Set where the caller counts its bytes.
    var offset: UInt64?
    var refusesTerminalEnd = false

    /// The next command, with `count` bytes attached.
    func command(_ count: Int, eof: Bool) -> WriteStdin {
        var command = WriteStdin()
        command.processId = processID
        command.attachedBytes = UInt32(count)
        command.eof = eof
        command.refuseTerminalEof = refusesTerminalEnd
        if let offset {
            command.hasOffset = true
            command.offset = offset
        }
        return command
    }

    /// `count` bytes were taken. Offsets that run past 64 bits stay there: beyond what was
    /// accepted, as the supervisor will say.
    mutating func advance(_ count: Int) {
        guard let offset else { return }
        let (next, overflows) = offset.addingReportingOverflow(UInt64(count))
        self.offset = overflows ? .max : next
    }
}
