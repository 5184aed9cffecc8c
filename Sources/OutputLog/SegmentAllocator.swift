// Which parts of an arena are in use: a pure allocator of segments and of the small
// blocks that some of them are cut into. Knows offsets alone, and touches no memory.

/// How large a piece of the arena is.
///
/// A log grows through the sizes, so that ten thousand processes that printed one line
/// each do not hold ten thousand segments.
public enum BlockSize: Int, CaseIterable, Sendable {
    case small = 1_024
    case medium = 16_384
    /// A whole segment.
    case large = 262_144

    /// The smallest size that holds `bytes`; `large` where none does.
    static func fitting(_ bytes: Int) -> BlockSize {
        bytes <= small.rawValue ? .small : bytes <= medium.rawValue ? .medium : .large
    }

    var next: BlockSize { self == .small ? .medium : .large }
}

/// A piece of the arena, owned by whoever allocated it until it is freed.
public struct Block: Hashable, Sendable {
    /// In bytes from the arena's start.
    public let offset: Int
    public let size: BlockSize
}

/// Hands out blocks, the one freed last first: its pages are the likeliest to be in
/// the processor's cache. Recycling in another order, or giving pages back to the
/// kernel each time, costs twice to three times the CPU of a whole stream.
struct SegmentAllocator {
    static let segmentBytes = BlockSize.large.rawValue

    let segmentCount: Int
    private(set) var bytesInUse = 0

    /// Segments from here on were never used.
    private var firstUntouched = 0
    /// Free, with pages behind them, the one freed last at the end.
    private var warm: [Int] = []
    /// Free, their pages given back.
    private var cold: [Int] = []
    private var slabs: [Int: Slab] = [:]
    /// Slabs of each small size that have a free block.
    private var partial: [BlockSize: [Int]] = [.small: [], .medium: []]

    private struct Slab {
        let size: BlockSize
        var free: [UInt16]
        var blockCount: Int { SegmentAllocator.segmentBytes / size.rawValue }
    }

    init(segmentCount: Int) {
        self.segmentCount = segmentCount
    }

    /// Free segments that still have pages.
    var warmSegments: Int { warm.count }

    /// `nil` where the arena is full.
    mutating func allocate(_ size: BlockSize) -> Block? {
        guard size != .large else {
            guard let segment = takeSegment() else { return nil }
            bytesInUse += Self.segmentBytes
            return Block(offset: segment * Self.segmentBytes, size: .large)
        }
        guard let index = partial[size]?.last ?? makeSlab(size),
            let number = slabs[index]?.free.popLast()
        else { return nil }
        if slabs[index]?.free.isEmpty == true { partial[size]?.removeLast() }
        bytesInUse += size.rawValue
        return Block(offset: index * Self.segmentBytes + Int(number) * size.rawValue, size: size)
    }

    mutating func free(_ block: Block) {
        bytesInUse -= block.size.rawValue
        let segment = block.offset / Self.segmentBytes
        guard block.size != .large else {
            warm.append(segment)
            return
        }
        guard var slab = slabs[segment] else {
            preconditionFailure("a block was freed twice")
        }
        slab.free.append(UInt16(block.offset % Self.segmentBytes / block.size.rawValue))
        slabs[segment] = slab
        if slab.free.count == 1 { partial[block.size]?.append(segment) }
        // The last slab of its size stays, so that one process after the other does
        // not cut up a segment each time.
        if slab.free.count == slab.blockCount, let list = partial[block.size], list.count > 1 {
            partial[block.size]?.removeAll { $0 == segment }
            slabs[segment] = nil
            warm.append(segment)
        }
    }

    /// Takes up to `max` of the coldest warm segments beyond `pooled`; their pages are
    /// the caller's to give back.
    mutating func cool(pooled: Int, max: Int) -> [Int] {
        let surplus = min(warm.count - pooled, max)
        guard surplus > 0 else { return [] }
        let chosen = Array(warm.prefix(surplus))
        warm.removeFirst(surplus)
        cold += chosen
        return chosen
    }

    private mutating func takeSegment() -> Int? {
        if let segment = warm.popLast() ?? cold.popLast() { return segment }
        guard firstUntouched < segmentCount else { return nil }
        defer { firstUntouched += 1 }
        return firstUntouched
    }

    private mutating func makeSlab(_ size: BlockSize) -> Int? {
        guard let segment = takeSegment() else { return nil }
        let count = Self.segmentBytes / size.rawValue
        slabs[segment] = Slab(size: size, free: (0..<UInt16(count)).reversed())
        partial[size]?.append(segment)
        return segment
    }
}
