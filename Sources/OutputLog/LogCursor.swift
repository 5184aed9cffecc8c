// A reader's place in a log. Every reader has its own; none knows of another, and none
// can hold back the writer except by what it does not release. Knows no stream.

/// Reads the records of a log in order, as slices of the arena.
///
/// A cursor may stand within a record, since a frame may cut one anywhere. While it
/// does, `pinned` names the segment that must not be freed.
public struct LogCursor: Sendable {
    /// Where the next bytes are.
    public enum Place: Equatable, Sendable {
        /// This many contiguous bytes are there now.
        case bytes(Int)
        /// Everything that was written has been read.
        case end
        /// The next record wanted was dropped; the first one there is has this number.
        case dropped(UInt64)
    }

    /// The number of the next record, or of the one that the cursor stands in.
    public private(set) var nextSeq: UInt64

    /// Set once `nextSeq` was found in the chain.
    private var located: (segment: LogIndex.Segment, offset: Int)?
    /// Bytes left of the record that the cursor stands in; 0 between records.
    public private(set) var restOfRecord = 0

    /// A cursor before the record `seq`, which may not have been written yet.
    public init(at seq: UInt64) {
        nextSeq = max(1, seq)
    }

    public var isBetweenRecords: Bool { restOfRecord == 0 }

    /// The log holds what is no record, or one that is longer than its segment, where the next
    /// record should be. Nothing more can be read: `place` says `.end`.
    public private(set) var isCorrupt = false

    /// The segment that the rest of a record is still to be read from.
    public var pinned: UInt64? { restOfRecord > 0 ? located?.segment.ordinal : nil }

    /// What can be read now.
    public mutating func place(in log: borrowing LogIndex) -> Place {
        if isCorrupt { return .end }
        if restOfRecord > 0, let located {
            // The segment may have been retired: what was known of it is still there.
            let segment = log.segment(ordinal: located.segment.ordinal) ?? located.segment
            self.located?.segment = segment
            return .bytes(segment.end - located.offset)
        }
        guard nextSeq <= log.lastSeq else { return .end }
        guard nextSeq >= log.firstSeq else { return .dropped(log.firstSeq) }
        if let located, let segment = log.segment(ordinal: located.segment.ordinal),
            located.offset < segment.end
        {
            self.located?.segment = segment
            return .bytes(segment.end - located.offset)
        }
        guard locate(in: log), let located else {
            isCorrupt = true
            return .end
        }
        return .bytes(located.segment.end - located.offset)
    }

    /// The bytes at the cursor, to the end of the segment. Valid after `place` said
    /// `.bytes`.
    public func bytes(in log: borrowing LogIndex) -> UnsafeRawBufferPointer {
        guard let located else { return UnsafeRawBufferPointer(start: nil, count: 0) }
        let rest = log.arena.bytes(from: located.segment.offset + located.offset)
        return UnsafeRawBufferPointer(rebasing: rest.prefix(segmentEnd - located.offset))
    }

    /// The header of the record at the cursor, which is between records and where
    /// `place` said `.bytes`.
    public func header(in log: borrowing LogIndex) -> RecordHeader? {
        let bytes = bytes(in: log)
        return Self.header(at: bytes)
    }

    /// The header at the start of `bytes`, which end with their segment. `nil` where there is no
    /// complete record.
    private static func header(at bytes: UnsafeRawBufferPointer) -> RecordHeader? {
        guard bytes.count >= RecordLayout.headerSize, let start = bytes.baseAddress,
            let header = RecordLayout.read(at: start), header.recordSize <= bytes.count
        else { return nil }
        return header
    }

    /// Moves on by `count` of the bytes that `place` gave.
    public mutating func advance(_ count: Int, in log: borrowing LogIndex) {
        guard var located else { return }
        let segment = UnsafeRawBufferPointer(
            rebasing: log.arena.bytes(from: located.segment.offset).prefix(segmentEnd))
        var left = count
        while left > 0 {
            if restOfRecord == 0 {
                let rest = UnsafeRawBufferPointer(rebasing: segment[located.offset...])
                guard let header = Self.header(at: rest) else {
                    isCorrupt = true
                    break
                }
                restOfRecord = header.recordSize
            }
            let taken = min(left, restOfRecord)
            located.offset += taken
            restOfRecord -= taken
            left -= taken
            if restOfRecord == 0 { nextSeq += 1 }
        }
        self.located = located
    }

    /// Moves to before the record `seq`, past what was dropped. Only between records.
    public mutating func skip(to seq: UInt64) {
        precondition(restOfRecord == 0, "a skip within a record")
        nextSeq = seq
        located = nil
    }

    private var segmentEnd: Int { located?.segment.end ?? 0 }

    /// Finds `nextSeq` from the head of its segment.
    private mutating func locate(in log: borrowing LogIndex) -> Bool {
        guard let segment = log.segment(holding: nextSeq) else { return false }
        let bytes = UnsafeRawBufferPointer(
            rebasing: log.arena.bytes(from: segment.offset).prefix(segment.end))
        var seq = segment.firstSeq
        var offset = 0
        while offset < segment.end {
            if seq == nextSeq {
                located = (segment, offset)
                return true
            }
            let rest = UnsafeRawBufferPointer(rebasing: bytes[offset...])
            guard let header = Self.header(at: rest) else { return false }
            offset += header.recordSize
            seq += 1
        }
        return false
    }
}
