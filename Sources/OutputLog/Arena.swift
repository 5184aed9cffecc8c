// The writer's side of the output memory: one sparse, sealed memfd that holds every
// log. Owned by the supervisor; the gateway maps the same pages read-only through
// ArenaMapping. Knows blocks, not what is in them.

import CLinux
import Glibc

/// A system call on the arena failed.
public struct ArenaError: Error, CustomStringConvertible {
    public let call: String
    public let errno: Int32

    init(_ call: String) {
        self.call = call
        self.errno = Glibc.errno
    }

    public var description: String { "\(call): \(String(cString: strerror(errno)))" }
}

/// Memory for all logs of one supervisor. Not thread-safe: one thread owns it.
public final class Arena {
    /// To be written through. It stays this object's.
    private let descriptor: Int32
    /// To be handed to readers, who can map it and not write to it. It stays this object's.
    public let readerDescriptor: Int32
    /// The size of the file; pages that were never written take no memory.
    public let capacityBytes: Int

    let base: UnsafeMutableRawPointer
    /// For the reads of logs that are still small: how much came is known only then.
    let scratch: UnsafeMutableRawBufferPointer
    private var allocator: SegmentAllocator
    private let pooledSegments: Int

    /// The size of `scratch`: what a pipe holds before it is grown.
    static let scratchBytes = 65_536

    /// - Parameters:
    ///   - capacityBytes: rounded up to whole segments of 256 KiB.
    ///   - pooledSegments: free segments that keep their pages.
    public init(capacityBytes: Int, pooledSegments: Int) throws(ArenaError) {
        let segment = SegmentAllocator.segmentBytes
        let count = max(1, (capacityBytes + segment - 1) / segment)
        self.capacityBytes = count * segment
        self.pooledSegments = pooledSegments
        allocator = SegmentAllocator(segmentCount: count)

        let descriptor = clinux_sealed_memfd("procgate-output", count * segment)
        guard descriptor >= 0 else { throw ArenaError("memfd_create") }
        let mapping = mmap(
            nil, count * segment, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0)
        guard let mapping, mapping != UnsafeMutableRawPointer(bitPattern: -1) else {
            let error = ArenaError("mmap")
            close(descriptor)
            throw error
        }
        let reader = clinux_reopen_for_reading(descriptor)
        guard reader >= 0 else {
            let error = ArenaError("reopening the output memory")
            munmap(mapping, count * segment)
            close(descriptor)
            throw error
        }
        self.descriptor = descriptor
        readerDescriptor = reader
        base = mapping
        scratch = .allocate(byteCount: Self.scratchBytes, alignment: 16)
    }

    deinit {
        scratch.deallocate()
        munmap(base, capacityBytes)
        close(readerDescriptor)
        close(descriptor)
    }

    /// Of all blocks that logs hold, retired ones among them.
    public var bytesInUse: Int { allocator.bytesInUse }

    /// Gives the pages of at most `max` free segments beyond the pool back to the
    /// kernel; returns how many are left to give. A punched segment costs 700 µs when
    /// it is used again, so this is for idle times.
    public func trim(max: Int) -> Int {
        for segment in allocator.cool(pooled: pooledSegments, max: max) {
            let size = SegmentAllocator.segmentBytes
            // A failure leaves the pages where they are; they are reused all the same.
            _ = clinux_punch_hole(descriptor, segment * size, size)
        }
        return Swift.max(0, allocator.warmSegments - pooledSegments)
    }

    func allocate(_ size: BlockSize) -> Block? { allocator.allocate(size) }

    func free(_ block: Block) { allocator.free(block) }
}
