// A writer and its readers joined in memory, as the socket between them would.

@testable import OutputLog

/// A log, and the index that a reader in another process would have of it.
final class LogHarness {
    let arena: Arena
    let writer: LogWriter
    var index: LogIndex
    /// Segments that retention gave up, whose acknowledgement is still out.
    var retired: [UInt64] = []

    init(retainBytes: Int, capacityBytes: Int = 64 << 20) throws {
        arena = try Arena(capacityBytes: capacityBytes, pooledSegments: 4)
        writer = LogWriter(arena: arena, retainBytes: retainBytes)
        let mapping = try ArenaMapping(
            descriptor: arena.readerDescriptor, byteCount: arena.capacityBytes)
        guard let index = LogIndex(arena: mapping, segments: [], lastSeq: 0) else {
            fatalError("an empty index")
        }
        self.index = index
    }

    /// Writes `data` as chunks of at most what a reservation gives, announces each.
    func write(_ data: [UInt8], stream: OutputStreamKind = .stdout, limit: Int = 1 << 20) -> Bool {
        var rest = data[...]
        while !rest.isEmpty {
            guard let room = writer.reserve(limit: limit) else { return false }
            let part = rest.prefix(room.count)
            part.withUnsafeBytes {
                room.baseAddress?.copyMemory(from: $0.baseAddress!, byteCount: $0.count)
            }
            guard
                let commit = writer.commit(
                    count: part.count, stream: stream, timestamp: 1_795_000_000_000)
            else {
                writer.abandonReservation()
                return false
            }
            rest = rest.dropFirst(part.count)
            let segment = commit.segment
            guard
                index.append(
                    ordinal: segment.ordinal, offset: segment.block.offset,
                    firstSeq: segment.firstSeq,
                    end: segment.end, lastSeq: commit.seq)
            else { return false }
            retired += writer.enforceRetention()
        }
        return true
    }

    /// The reader's side of a retirement: drops the segments, frees those not pinned.
    func acknowledgeRetired(pinnedBy cursors: [LogCursor]) {
        guard let last = retired.last else { return }
        index.retire(through: last)
        let pinned = Set(cursors.compactMap(\.pinned))
        for ordinal in retired where !pinned.contains(ordinal) { writer.free(ordinal: ordinal) }
        retired.removeAll { !pinned.contains($0) }
    }
}

/// A small, seeded generator (SplitMix64, Steele et al. 2014), so that a failure can be
/// repeated.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
