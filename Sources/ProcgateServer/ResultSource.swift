// What the answer of Wait sends: one message whose output is pulled from the arena, piece by
// piece, so that a caller who does not read costs a reader's place and not the output. Its
// lengths are known before the first byte leaves.

import GRPCWire
import HTTP2
import NIOCore
import OutputLog
import ProcgateV1
import Protobuf
import SupervisorLink

/// The newest bytes of an ended process's retained output, both streams together: where they
/// begin in the log, and how many there are of each.
struct RetainedOutput {
    private(set) var stdoutCount = 0
    private(set) var stderrCount = 0
    /// The first record, and how many bytes of its data do not fit any more.
    private(set) var firstSeq: UInt64
    private(set) var cutBytes = 0

    var byteCount: Int { stdoutCount + stderrCount }

    /// The reader is left before the first record.
    init(newest limit: Int, of reader: LogReader) {
        firstSeq = reader.nextSeq
        let process = reader.log.process
        let (total, overflows) = process.stdoutBytes.addingReportingOverflow(process.stderrBytes)
        if firstSeq == 1, !overflows, total <= UInt64(limit), case .bytes = reader.place() {
            // Nothing was dropped: what was counted is there.
            stdoutCount = Int(process.stdoutBytes)
            stderrCount = Int(process.stderrBytes)
            return
        }
        measure(reader)
        cut(byteCount - limit, reader)
        reader.skip(to: firstSeq)
    }

    private mutating func measure(_ reader: LogReader) {
        if case .dropped(let first) = reader.place() {
            reader.skip(to: first)
            firstSeq = first
        }
        while case .bytes = reader.place(), let header = reader.header() {
            count(header.stream, header.dataCount)
            reader.advance(header.recordSize)
        }
        reader.skip(to: firstSeq)
    }

    /// Leaves the oldest bytes out.
    private mutating func cut(_ bytes: Int, _ reader: LogReader) {
        var excess = bytes
        while excess > 0, case .bytes = reader.place(), let header = reader.header() {
            let dropped = min(excess, header.dataCount)
            excess -= dropped
            count(header.stream, -dropped)
            if dropped < header.dataCount {
                cutBytes = dropped
                return
            }
            reader.advance(header.recordSize)
            firstSeq = reader.nextSeq
        }
    }

    private mutating func count(_ stream: OutputStreamKind, _ bytes: Int) {
        switch stream {
        case .stdout: stdoutCount += bytes
        case .stderr: stderrCount += bytes
        }
    }

    func count(of stream: OutputStreamKind) -> Int {
        stream == .stdout ? stdoutCount : stderrCount
    }

    /// Copies all of it. False: it has been dropped meanwhile.
    func copy(from reader: LogReader, into result: inout ProcessResult) -> Bool {
        let pieces = OutputPieces(self, of: reader)
        result.stdoutData = []
        result.stderrData = []
        return pieces.copy(.stdout, into: &result.stdoutData)
            && pieces.copy(.stderr, into: &result.stderrData)
    }
}

/// The bytes of one stream after the other, as they lie in the log.
struct OutputPieces {
    private let output: RetainedOutput
    private let reader: LogReader

    enum Place {
        /// The reader stands in the data of a record of the stream.
        case data
        /// The link is lost, and what became of the log is not known yet.
        case later
        case dropped
    }

    init(_ output: RetainedOutput, of reader: LogReader) {
        self.output = output
        self.reader = reader
    }

    /// Goes back to the first record, unless the log was lost within another one.
    func rewind() {
        if reader.isBetweenRecords { reader.skip(to: output.firstSeq) }
    }

    /// Moves to the next data of that stream, of which there is some.
    func find(_ stream: OutputStreamKind) -> Place {
        if reader.isCutOff { return .dropped }
        while reader.isBetweenRecords {
            switch reader.place() {
            case .end: return reader.log.stage == .running ? .later : .dropped
            case .dropped: return .dropped
            case .bytes: break
            }
            guard let header = reader.header() else { return .dropped }
            guard header.stream == stream else {
                reader.advance(header.recordSize)
                continue
            }
            let cut = reader.nextSeq == output.firstSeq ? output.cutBytes : 0
            reader.advance(RecordLayout.headerSize + cut)
        }
        guard case .bytes = reader.place() else { return .later }
        return .data
    }

    /// What is left of the record where `find` has put the reader.
    var piece: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: reader.bytes().prefix(reader.restOfRecord))
    }

    func advance(_ count: Int) {
        reader.advance(count)
    }

    /// From the first record on.
    func copy(_ stream: OutputStreamKind, into data: inout [UInt8]) -> Bool {
        rewind()
        data.reserveCapacity(output.count(of: stream))
        while data.count < output.count(of: stream) {
            guard case .data = find(stream) else { return false }
            let piece = piece
            data += piece
            advance(piece.count)
        }
        return true
    }
}

/// Feeds one call of Wait. Confined to its call's event loop.
final class ResultSource: BodySource {
    private enum Part {
        case bytes(ByteBuffer)
        /// So many bytes of a stream that are still to come.
        case output(OutputStreamKind, Int)
    }

    /// Set where the output was dropped before it was sent. What has been sent of the message
    /// stays a part of one: the caller is told the status, and has no result.
    private(set) var failure: GRPCStatus?

    private let call: ServerCall
    private let reader: LogReader
    private let pieces: OutputPieces
    private var parts: [Part] = []
    private var isWaiting = false
    /// Of what was copied from the log when it had to go.
    private var charge: MemoryCharge?

    /// A shorter piece is copied together with those behind it.
    private static let leastPiece = 4096

    /// - Parameter reader: before the first record of `output`; closed by the call's end.
    init(
        _ result: ProcessResult, _ output: RetainedOutput, of reader: LogReader, by call: ServerCall
    ) {
        self.call = call
        self.reader = reader
        pieces = OutputPieces(output, of: reader)
        parts = Self.parts(result, output).reversed()
        reader.onChange = { [weak self] in self?.resume() }
        reader.beforeRetirement = { [weak self] in self?.copyRest() }
    }

    /// `WaitResponse{result: ProcessResult{…}}` with its prefix, in the order of its fields.
    private static func parts(_ result: ProcessResult, _ output: RetainedOutput) -> [Part] {
        let process = ProcessResult.with { $0.process = result.process }.encoded()
        var tail = result
        tail.process = nil
        let rest = tail.encoded()
        let stdout = header(field: 2, count: output.stdoutCount)
        let stderr = header(field: 3, count: output.stderrCount)
        let count =
            process.count + rest.count + stdout.count + stderr.count + output.byteCount
        let outer = header(field: 1, count: count)
        var head = ByteBuffer()
        head.writeInteger(0, as: UInt8.self)
        head.writeInteger(UInt32(outer.count + count))
        head.writeBytes(outer + process + stdout)
        return [
            .bytes(head), .output(.stdout, output.stdoutCount),
            .bytes(ByteBuffer(bytes: stderr)), .output(.stderr, output.stderrCount),
            .bytes(ByteBuffer(bytes: rest)),
        ]
    }

    /// The tag and the length of a field of bytes; nothing where it is empty.
    private static func header(field: UInt8, count: Int) -> [UInt8] {
        guard count > 0 else { return [] }
        var bytes = [field << 3 | 2]
        var rest = count
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        return bytes + [UInt8(rest)]
    }

    func available(limit: Int) -> BodyAvailability {
        isWaiting = false
        while failure == nil, let part = parts.last {
            switch part {
            case .bytes(let bytes) where bytes.readableBytes > 0:
                return .bytes(min(limit, bytes.readableBytes))
            case .output(let stream, let count) where count > 0:
                switch pieces.find(stream) {
                case .data:
                    let piece = pieces.piece.count
                    return .bytes(min(limit, piece >= Self.leastPiece ? piece : count))
                case .later:
                    isWaiting = true
                    return .later
                case .dropped:
                    failure = .outputDropped
                }
            case .output(.stdout, _):
                parts.removeLast()
                pieces.rewind()
            case .bytes, .output(.stderr, _):
                parts.removeLast()
            }
        }
        return .end
    }

    func copy(into destination: UnsafeMutableRawBufferPointer) {
        switch parts.removeLast() {
        case .bytes(var bytes):
            bytes.readWithUnsafeReadableBytes { readable in
                destination.copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: readable.prefix(destination.count)))
                return destination.count
            }
            parts.append(.bytes(bytes))
        case .output(let stream, let count):
            copy(stream, into: destination)
            parts.append(.output(stream, count - destination.count))
        }
    }

    private func copy(_ stream: OutputStreamKind, into destination: UnsafeMutableRawBufferPointer) {
        var filled = 0
        while filled < destination.count, case .data = pieces.find(stream) {
            let piece = pieces.piece.prefix(destination.count - filled)
            UnsafeMutableRawBufferPointer(rebasing: destination[filled...])
                .copyMemory(from: UnsafeRawBufferPointer(rebasing: piece))
            pieces.advance(piece.count)
            filled += piece.count
        }
        guard filled < destination.count else { return }
        // A log that is not what was measured: the length is on the wire already.
        failure = .corruptLog
        UnsafeMutableRawBufferPointer(rebasing: destination[filled...])
            .initializeMemory(as: UInt8.self, repeating: 0)
    }

    func lend(_ count: Int) -> UnsafeRawBufferPointer? {
        guard case .output(let stream, let left)? = parts.last, pieces.piece.count >= count else {
            return nil
        }
        let bytes = UnsafeRawBufferPointer(rebasing: pieces.piece.prefix(count))
        parts[parts.count - 1] = .output(stream, left - count)
        // What this tells the supervisor leaves the loop's turn after the bytes do.
        pieces.advance(count)
        return bytes
    }

    private func resume() {
        guard isWaiting else { return }
        isWaiting = false
        call.wake()
    }

    /// The log is about to lose its oldest segments: all that is still to be sent is copied, where
    /// there is room for it now.
    private func copyRest() {
        let count = parts.reduce(0) { sum, part in
            if case .output(_, let count) = part { sum + count } else { sum }
        }
        guard count > 0, failure == nil else { return }
        guard let charge = call.holdNow(count) else {
            failure = .outputDropped
            return resume()
        }
        self.charge = charge
        for index in parts.indices.reversed() {
            guard case .output(let stream, let count) = parts[index] else { continue }
            var copied = ByteBufferAllocator().buffer(capacity: count)
            copied.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { room in
                copy(stream, into: UnsafeMutableRawBufferPointer(rebasing: room[0..<count]))
                return count
            }
            parts[index] = .bytes(copied)
            if stream == .stdout { pieces.rewind() }
        }
    }
}

extension GRPCStatus {
    static let outputDropped = GRPCStatus.refusal(
        .replayWindowExpired,
        "the output was dropped before it was sent; repeat the call for what is retained")
}
