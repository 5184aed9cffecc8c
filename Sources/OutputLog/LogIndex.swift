// A log as a reader in another process knows it: which blocks hold which records. Fed
// with what the supervisor announces; many cursors read by one index. Knows no socket.

public import DequeModule

/// The chain of one followed log.
///
/// Whatever is announced is checked against the arena's size and against what was announced
/// before, so that a supervisor that is out of step cannot make a reader leave the mapping or
/// count past the end of a number.
public struct LogIndex: Sendable {
    /// A block of the chain, in bytes of the arena.
    public struct Segment: Equatable, Sendable {
        public let ordinal: UInt64
        public let offset: Int
        public let firstSeq: UInt64
        public internal(set) var end: Int

        public init(ordinal: UInt64, offset: Int, firstSeq: UInt64, end: Int) {
            self.ordinal = ordinal
            self.offset = offset
            self.firstSeq = firstSeq
            self.end = end
        }
    }

    /// Blocks of the arena are told in units of this many bytes.
    public static let blockUnit = BlockSize.small.rawValue
    /// Above every number of a record or a segment: what a reader adds cannot overflow.
    private static let numberLimit: UInt64 = 1 << 62

    public private(set) var lastSeq: UInt64
    public private(set) var segments: Deque<Segment>
    let arena: ArenaMapping

    /// - Returns: `nil` where the segments are not in order or not in the arena.
    public init?(arena: ArenaMapping, segments: [Segment], lastSeq: UInt64) {
        guard lastSeq < Self.numberLimit else { return nil }
        self.arena = arena
        self.lastSeq = lastSeq
        self.segments = []
        for segment in segments {
            guard append(segment) else { return nil }
        }
    }

    /// The first record that a cursor can still reach; `lastSeq` + 1 where there is none.
    public var firstSeq: UInt64 { segments.first?.firstSeq ?? lastSeq + 1 }

    /// Records were added: to the last segment, or as the first ones of a new segment.
    /// Returns whether that can be.
    public mutating func append(
        ordinal: UInt64, offset: Int, firstSeq: UInt64, end: Int, lastSeq: UInt64
    ) -> Bool {
        guard lastSeq >= self.lastSeq, lastSeq < Self.numberLimit else { return false }
        if let last = segments.last, last.ordinal == ordinal {
            guard end >= last.end, end <= BlockSize.large.rawValue,
                last.offset + end <= arena.byteCount
            else { return false }
            segments[segments.count - 1].end = end
        } else {
            let segment = Segment(ordinal: ordinal, offset: offset, firstSeq: firstSeq, end: end)
            guard append(segment) else { return false }
        }
        self.lastSeq = lastSeq
        return true
    }

    /// The segments up to `ordinal` are no longer part of the log.
    public mutating func retire(through ordinal: UInt64) {
        while let first = segments.first, first.ordinal <= ordinal { segments.removeFirst() }
    }

    /// Nobody reads the log here any more: what of it was mapped is let go of.
    public func letGoOfPages() {
        for segment in segments { arena.letGo(of: segment.offset..<segment.offset + segment.end) }
    }

    private mutating func append(_ segment: Segment) -> Bool {
        guard segment.offset >= 0, segment.end >= 0, segment.end <= BlockSize.large.rawValue,
            segment.offset <= arena.byteCount - segment.end,
            (1..<Self.numberLimit).contains(segment.firstSeq), segment.ordinal < Self.numberLimit,
            segments.last.map({ $0.ordinal < segment.ordinal && $0.firstSeq < segment.firstSeq })
                ?? true
        else { return false }
        segments.append(segment)
        return true
    }

    func segment(ordinal: UInt64) -> Segment? {
        guard let first = segments.first, ordinal >= first.ordinal else { return nil }
        let index = Int(ordinal - first.ordinal)
        guard index < segments.count, segments[index].ordinal == ordinal else { return nil }
        return segments[index]
    }

    /// The segment that holds the record `seq`.
    func segment(holding seq: UInt64) -> Segment? {
        var low = 0
        var high = segments.count
        while low < high {
            let middle = (low + high) / 2
            if segments[middle].firstSeq <= seq { low = middle + 1 } else { high = middle }
        }
        return low > 0 ? segments[low - 1] : nil
    }
}
