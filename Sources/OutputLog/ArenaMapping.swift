// The reader's side of the output memory: the supervisor's arena, mapped read-only.

import Glibc

/// The mapped arena. What lies in a block is stable once the supervisor has announced
/// it, and until the block's retirement has been acknowledged.
public final class ArenaMapping: Sendable {
    public let byteCount: Int
    private let address: UInt

    /// Maps `byteCount` bytes of `descriptor`, which stays the caller's and can be closed.
    public init(descriptor: Int32, byteCount: Int) throws(ArenaError) {
        guard byteCount > 0,
            let mapping = mmap(nil, byteCount, PROT_READ, MAP_SHARED, descriptor, 0),
            mapping != UnsafeMutableRawPointer(bitPattern: -1)
        else { throw ArenaError("mmap") }
        self.byteCount = byteCount
        address = UInt(bitPattern: mapping)
    }

    deinit {
        munmap(UnsafeMutableRawPointer(bitPattern: address), byteCount)
    }

    /// Lets go of the pages of a range: they stay the arena's, and are mapped anew when
    /// they are read again. Whole pages within the range alone.
    func letGo(of range: Range<Int>) {
        let page = 4_096
        let start = (range.lowerBound + page - 1) / page * page
        let end = range.upperBound / page * page
        guard start < end, let base = UnsafeMutableRawPointer(bitPattern: address) else { return }
        // A failure leaves them mapped, which is no harm.
        _ = madvise(base + start, end - start, MADV_DONTNEED)
    }

    /// The bytes from `offset` to the arena's end.
    func bytes(from offset: Int) -> UnsafeRawBufferPointer {
        let base = UnsafeRawPointer(bitPattern: address)
        return UnsafeRawBufferPointer(
            start: base.map { $0 + offset }, count: byteCount - offset)
    }
}
