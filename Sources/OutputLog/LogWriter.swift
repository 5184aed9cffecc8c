// The log of one process, as its writer sees it: a chain of blocks in the arena that
// hold wire-ready records, what of them is retained, and how much a held process has
// printed that no reader has taken yet. Knows no pipe and no reader.

import DequeModule

/// A block in a log's chain.
public struct LogSegment: Equatable, Sendable {
    /// 0, 1, 2, … in the chain of one log.
    public let ordinal: UInt64
    public let block: Block
    /// The number of its first record.
    public let firstSeq: UInt64
    /// Bytes of complete records.
    public internal(set) var end: Int
}

/// What a commit changed, for those who follow the log.
public struct LogCommit: Equatable, Sendable {
    public let segment: LogSegment
    /// Whether `segment` is new with this record.
    public let startedSegment: Bool
    /// The number of the record.
    public let seq: UInt64
}

/// A place between two records.
private struct RecordPosition {
    var ordinal: UInt64 = 0
    var offset = 0
    /// Of the record that begins here.
    var seq: UInt64 = 1
}

/// Writes one process's records. Not thread-safe: the arena's thread owns it.
public final class LogWriter {
    /// Data bytes kept for replay; the newest record stays whatever its size.
    public private(set) var retainBytes: Int
    public private(set) var lastSeq: UInt64 = 0
    public private(set) var stdoutBytes: UInt64 = 0
    public private(set) var stderrBytes: UInt64 = 0
    /// Data bytes of the records that can be replayed.
    public private(set) var retainedBytes = 0
    /// Data bytes of the records after the last one released.
    public private(set) var unreleasedBytes = 0
    /// The arena holds something else than was written there: another process has written to it.
    /// Every record was given up.
    public private(set) var isCorrupt = false
    /// While it is set, no record that has not been released is dropped.
    public var isHeld = false

    private let arena: Arena
    private var chain: Deque<LogSegment> = []
    /// Of the next segment.
    public private(set) var nextOrdinal: UInt64 = 0
    private var retired: [UInt64: Block] = [:]
    private var firstRetained = RecordPosition()
    private var released = RecordPosition()
    private var reservation: Reservation?

    private enum Reservation { case scratch, inPlace }

    /// A read straight into a segment gives at least this much room.
    private static let leastRoom = 8_192

    public init(arena: Arena, retainBytes: Int) {
        self.arena = arena
        self.retainBytes = retainBytes
    }

    deinit {
        for segment in chain { arena.free(segment.block) }
        for block in retired.values { arena.free(block) }
    }

    /// The first record that can be replayed; one more than `lastSeq` where none can.
    public var firstRetainedSeq: UInt64 { firstRetained.seq }

    /// The last record that a reader has handed on.
    public var releasedSeq: UInt64 { released.seq - 1 }

    /// Blocks of retained records, the oldest first.
    public var segments: some Collection<LogSegment> { chain }

    /// Where the first retained record lies in the first segment.
    public var firstOffset: Int {
        chain.first?.ordinal == firstRetained.ordinal ? firstRetained.offset : 0
    }

    /// Of the arena, retired blocks among them.
    public var bytesInUse: Int {
        chain.reduce(0) { $0 + $1.block.size.rawValue }
            + retired.values.reduce(0) { $0 + $1.size.rawValue }
    }

    /// Room for the data of one record, at most `limit` bytes of it. To be followed by
    /// `commit` or `abandonReservation`. `nil` where the arena is full.
    ///
    /// A log that is still small is read into a scratch buffer first and copied, so that
    /// its block can be as small as its output; a large one is read in place.
    public func reserve(limit: Int = RecordLayout.maxDataCount) -> UnsafeMutableRawBufferPointer? {
        precondition(reservation == nil, "two reservations at once")
        guard let last = chain.last, last.block.size != .small else {
            reservation = .scratch
            return slice(arena.scratch, limit)
        }
        var room = last.block.size.rawValue - last.end - RecordLayout.headerSize
        if room < Self.leastRoom {
            if last.block.size == .medium {
                reservation = .scratch
                return slice(arena.scratch, limit)
            }
            // The last record of the full block is already committed: a new, empty
            // block may end the chain.
            guard startSegment(.large) else { return nil }
            room = BlockSize.large.rawValue - RecordLayout.headerSize
        }
        guard let last = chain.last else { return nil }
        reservation = .inPlace
        let data = arena.base + last.block.offset + last.end + RecordLayout.headerSize
        return slice(UnsafeMutableRawBufferPointer(start: data, count: room), limit)
    }

    /// Makes a record of the first `count` bytes of the reservation. `nil` where the
    /// arena is full: the reservation then stands as it was, and `commit` can be
    /// repeated when there is room.
    public func commit(count: Int, stream: OutputStreamKind, timestamp: Int64) -> LogCommit? {
        guard let kind = reservation, count > 0 else {
            preconditionFailure("a commit without a reservation or data")
        }
        let size = RecordLayout.headerSize + count
        var source: UnsafeRawPointer?
        if kind == .scratch {
            guard makeRoom(size) else { return nil }
            source = UnsafeRawPointer(arena.scratch.baseAddress)
        }
        guard var last = chain.popLast() else { preconditionFailure("no segment") }
        let record = arena.base + last.block.offset + last.end
        if let source {
            (record + RecordLayout.headerSize).copyMemory(from: source, byteCount: count)
        }
        reservation = nil
        let started = last.end == 0
        lastSeq += 1
        RecordLayout.write(
            RecordHeader(seq: lastSeq, stream: stream, timestamp: timestamp, dataCount: count),
            at: record)
        last.end += size
        chain.append(last)
        if lastSeq == firstRetained.seq { firstRetained.ordinal = last.ordinal }
        retainedBytes += count
        unreleasedBytes += count
        switch stream {
        case .stdout: stdoutBytes += UInt64(count)
        case .stderr: stderrBytes += UInt64(count)
        }
        return LogCommit(segment: last, startedSegment: started, seq: lastSeq)
    }

    /// Nothing was read into the reservation.
    public func abandonReservation() {
        reservation = nil
    }

    /// A reader has handed on every record up to `seq`.
    public func release(through seq: UInt64) {
        let target = min(seq, lastSeq)
        while released.seq <= target {
            guard let count = step(&released) else { return loseRecords() }
            unreleasedBytes = max(0, unreleasedBytes - count)
        }
    }

    /// Nothing that was written can be replayed: what follows is written behind it.
    private func loseRecords() {
        guard isCorrupt else { return }
        firstRetained = RecordPosition(ordinal: nextOrdinal, offset: 0, seq: lastSeq + 1)
        released = firstRetained
        retainedBytes = 0
        unreleasedBytes = 0
    }

    /// Sets how much is kept, and applies it. Returns as `enforceRetention`.
    public func retain(atMost bytes: Int) -> [UInt64] {
        retainBytes = bytes
        return enforceRetention()
    }

    /// Drops the oldest records beyond `retainBytes`. Returns the ordinals of the
    /// segments that hold none any more: they are retired, and stay readable until
    /// `free(ordinal:)`.
    public func enforceRetention() -> [UInt64] {
        guard retainedBytes > retainBytes else { return [] }
        let limit = isHeld ? min(released.seq, lastSeq) : lastSeq
        while retainedBytes > retainBytes, firstRetained.seq < limit {
            guard let count = step(&firstRetained) else {
                loseRecords()
                break
            }
            retainedBytes = max(0, retainedBytes - count)
        }
        // What nobody holds counts as taken.
        release(through: firstRetained.seq - 1)
        return retireUnretained()
    }

    /// Drops every record. Returns as `enforceRetention`.
    public func dropAll() -> [UInt64] {
        precondition(reservation != .inPlace, "a record is being read in")
        release(through: lastSeq)
        firstRetained = RecordPosition(ordinal: nextOrdinal, offset: 0, seq: lastSeq + 1)
        released = firstRetained
        retainedBytes = 0
        return retireUnretained()
    }

    /// No reader stands in a retired segment any more.
    public func free(ordinal: UInt64) {
        guard let block = retired.removeValue(forKey: ordinal) else { return }
        arena.free(block)
    }

    private func slice(
        _ room: UnsafeMutableRawBufferPointer, _ limit: Int
    ) -> UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(rebasing: room.prefix(max(1, limit)))
    }

    /// Sees to it that the last segment has room for a record of `size` bytes.
    private func makeRoom(_ size: Int) -> Bool {
        guard let last = chain.last else { return startSegment(.fitting(size)) }
        if last.block.size.rawValue - last.end >= size { return true }
        let wanted = BlockSize.fitting(size)
        let next = last.block.size.next
        return startSegment(wanted.rawValue > next.rawValue ? wanted : next)
    }

    private func startSegment(_ size: BlockSize) -> Bool {
        guard let block = arena.allocate(size) else { return false }
        chain.append(
            LogSegment(ordinal: nextOrdinal, block: block, firstSeq: lastSeq + 1, end: 0))
        nextOrdinal += 1
        return true
    }

    private func retireUnretained() -> [UInt64] {
        var ordinals: [UInt64] = []
        while let first = chain.first, first.ordinal < firstRetained.ordinal {
            retired[first.ordinal] = first.block
            ordinals.append(first.ordinal)
            chain.removeFirst()
        }
        return ordinals
    }

    /// Moves `position` behind the record that begins there; returns its data's count.
    private func step(_ position: inout RecordPosition) -> Int? {
        guard let base = chain.first?.ordinal, position.seq <= lastSeq else { return nil }
        if position.ordinal < base {
            // It stood at the end of a block that has been retired since: the first record
            // of the next one follows.
            position.ordinal = base
            position.offset = 0
        }
        var index = Int(position.ordinal - base)
        if position.offset >= chain[index].end {
            index += 1
            position.ordinal += 1
            position.offset = 0
        }
        guard index < chain.count else { return giveUp() }
        let end = chain[index].end
        let record = arena.base + chain[index].block.offset + position.offset
        // Read back from memory that others can see: it is checked as if it came from them.
        guard end - position.offset >= RecordLayout.headerSize,
            let header = RecordLayout.read(at: record),
            header.seq == position.seq & (1 << RecordLayout.seqBits - 1),
            header.recordSize <= end - position.offset
        else { return giveUp() }
        position.offset += header.recordSize
        position.seq += 1
        // Behind the last record of a block is the start of the next one, where there
        // is one: a block that is used up is then not held.
        if position.offset >= chain[index].end, index + 1 < chain.count {
            position.ordinal += 1
            position.offset = 0
        }
        return header.dataCount
    }

    /// What the records were is not known any more.
    private func giveUp() -> Int? {
        isCorrupt = true
        return nil
    }
}
