// What a stream of ProcessEvents sends: the log's bytes as they lie in the arena, and
// between its records the few events that the gateway makes itself. Pulled by the
// stream, so a caller that does not read costs one cursor.

import GRPCWire
import HTTP2
import NIOCore
import OutputLog
import ProcgateV1
import Protobuf
import SupervisorLink

/// Feeds one call of Exec, Attach or StreamOutput. Confined to its call's event loop.
final class OutputSource: BodySource, KeptAlive {
    struct Options {
        /// Announce `queued` and `started` (Exec, an Attach that starts).
        var announcesStart = false
        /// The process as it was told to wait, even where that is over by now.
        var queued: Process?
        /// End behind the record with this number; with `exited` where the process had
        /// ended by then.
        var lastSeq: UInt64?
        /// Records before this one were dropped when the stream began, even where some
        /// of them could still be read.
        var droppedBefore: UInt64 = 1
        /// Send a `gap` where records were dropped.
        var allowsGaps = false
        /// Only this stream.
        var only: OutputStreamKind?
        /// Each message compressed anew.
        var compresses = false
    }

    /// Called when the stream cannot go on, since the link was lost; with whether it has begun a
    /// message that it cannot end. Nobody may ask for more meanwhile: the window may be closed.
    var onCutOff: ((_ isWithinMessage: Bool) -> Void)?
    /// Set where the stream ended without its `exited`.
    private(set) var failure: GRPCStatus?
    private(set) var lastActivity = NIODeadline.now()

    private let reader: LogReader
    private let options: Options
    private let wake: () -> Void
    private let encode: (ByteBuffer) -> ByteBuffer
    /// Events of our own, prefixed; they go out between two records.
    private var events = ByteBuffer()
    private var hasBegunEvents = false
    private var pull = Pull.events
    private var announced = Announced.nothing
    private var isFinished = false
    private var isWaiting = false

    /// What the bytes just announced are.
    private enum Pull { case events, record }
    private enum Announced { case nothing, queued, started }

    /// - Parameters:
    ///   - wake: tells the stream that there is more.
    ///   - encode: frames one encoded message, compressed where the call wants that.
    init(
        reader: LogReader, options: Options, wake: @escaping () -> Void,
        encode: @escaping (ByteBuffer) -> ByteBuffer
    ) {
        self.reader = reader
        self.options = options
        self.wake = wake
        self.encode = encode
        // A cancelled call lets go of its source before its reader is closed.
        reader.onChange = { [weak self] in self?.resume() }
    }

    func available(limit: Int) -> BodyAvailability {
        isWaiting = false
        if reader.isCutOff, !isFinished {
            fail(.linkLost)
            return .end
        }
        if reader.isBetweenRecords {
            if events.readableBytes == 0, !isFinished { advanceToNextRecord() }
            if events.readableBytes > 0 {
                pull = .events
                let count = min(limit, events.readableBytes)
                return isFinished && count == events.readableBytes
                    ? .lastBytes(count) : .bytes(count)
            }
            if isFinished { return .end }
        }
        guard case .bytes(let count) = reader.place() else {
            isWaiting = true
            return .later
        }
        pull = .record
        return .bytes(min(limit, options.only == nil ? count : reader.restOfRecord))
    }

    func copy(into destination: UnsafeMutableRawBufferPointer) {
        lastActivity = .now()
        switch pull {
        case .events:
            events.readWithUnsafeReadableBytes { bytes in
                destination.copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: bytes.prefix(destination.count)))
                return destination.count
            }
            hasBegunEvents = events.readableBytes > 0
        case .record:
            destination.copyMemory(
                from: UnsafeRawBufferPointer(rebasing: reader.bytes().prefix(destination.count)))
            reader.advance(destination.count)
        }
    }

    func lend(_ count: Int) -> UnsafeRawBufferPointer? {
        guard pull == .record else { return nil }
        lastActivity = .now()
        let bytes = UnsafeRawBufferPointer(rebasing: reader.bytes().prefix(count))
        // What this tells the supervisor leaves the loop's turn after the bytes do.
        reader.advance(count)
        return bytes
    }

    func rest() -> ByteBuffer {
        guard reader.isBetweenRecords else {
            guard case .bytes = reader.place() else { return ByteBuffer() }
            return ByteBuffer(bytes: reader.bytes().prefix(reader.restOfRecord))
        }
        // All of them: they are few, and where one ends is not kept.
        return hasBegunEvents ? events : ByteBuffer()
    }

    func sendKeepAlive() {
        guard isWaiting else { return }
        lastActivity = .now()
        append(.keepAlive(KeepAlive()))
        resume()
    }

    private func resume() {
        if reader.isCutOff, !isFinished {
            isFinished = true
            failure = .linkLost
            onCutOff?(!reader.isBetweenRecords)
            return
        }
        guard isWaiting else { return }
        isWaiting = false
        wake()
    }

    /// Between two records: puts what is due before the next one into `events`, moves
    /// past what is not wanted, notices the end.
    private func advanceToNextRecord() {
        if options.announcesStart { announceStart() }
        while events.readableBytes == 0, !isFinished {
            if let last = options.lastSeq, reader.nextSeq > last { return finish() }
            if reader.nextSeq < options.droppedBefore {
                handleDropped(options.droppedBefore)
                continue
            }
            switch reader.place() {
            case .end:
                if reader.isCorrupt { return fail(.corruptLog) }
                reader.release()
                if reader.log.stage == .ended || reader.log.stage == .lost { finish() }
                return
            case .dropped(let first):
                handleDropped(first)
            case .bytes:
                guard options.only != nil || options.compresses else { return }
                guard let header = reader.header() else { return fail(.corruptLog) }
                if let only = options.only, header.stream != only {
                    reader.advance(header.recordSize)
                    continue
                }
                if options.compresses { compress(header) }
                return
            }
        }
    }

    private func announceStart() {
        let log = reader.log
        if announced == .nothing, let queued = options.queued {
            announced = .queued
            append(.queued(queued))
        }
        // What never ran has no start.
        if announced != .started, log.stage != .queued, log.process.startedAt > 0 {
            announced = .started
            append(.started(log.startedProcess))
        }
    }

    private func handleDropped(_ first: UInt64) {
        guard options.allowsGaps else { return fail(.expired(firstRetained: first)) }
        let gap = OutputGap.with {
            $0.fromSeq = reader.nextSeq
            $0.toSeq = first - 1
        }
        append(.gap(gap))
        reader.skip(to: first)
    }

    private func compress(_ header: RecordHeader) {
        let record = reader.bytes().prefix(header.recordSize)
        let message = record.dropFirst(RecordLayout.prefixSize)
        var framed = encode(ByteBuffer(bytes: message))
        events.writeBuffer(&framed)
        reader.advance(header.recordSize)
    }

    private func finish() {
        isFinished = true
        let log = reader.log
        switch log.stage {
        case .ended, .lost:
            append(.exited(ProcessResult(exitOf: log.process, lastSeq: log.lastSeq)))
        case .queued, .running:
            break
        }
    }

    private func fail(_ status: GRPCStatus) {
        failure = status
        isFinished = true
    }

    private func append(_ event: ProcessEvent.Event) {
        let message = ProcessEvent.with { $0.event = event }
        var framed = encode(message.withEncoded { ByteBuffer(bytes: $0) })
        events.writeBuffer(&framed)
    }
}

extension ProcessResult {
    /// The result that an `exited` event carries: no output, since the stream had it.
    init(exitOf process: Process, lastSeq: UInt64) {
        self.init()
        self.process = process
        self.lastSeq = lastSeq
        outputTruncated = process.firstRetainedSeq > 1 && process.lastSeq > 0
    }
}

extension GRPCStatus {
    static func expired(firstRetained seq: UInt64) -> GRPCStatus {
        .refusal(
            .replayWindowExpired,
            "what was asked for has been dropped; the first record retained is \(seq)",
            metadata: ["first_retained_seq": String(seq)])
    }

    static let linkLost = GRPCStatus.refusal(
        .supervisorUnavailable, "the link to the supervisor was lost; repeat the call")

    static let corruptLog = GRPCStatus(.dataLoss, "the log cannot be read")
}
