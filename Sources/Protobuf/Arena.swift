// The memory of one decoding or encoding: taken piece by piece, given back at once. Knows no
// message.
import CProtobufC

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif

/// Where C structs and what they point to live, for the time of one call.
///
/// The first block is on the caller's stack, so that a small message takes nothing from the heap.
/// There is no global state: an arena belongs to the call that made it.
package struct Arena {
    package let state: UnsafeMutablePointer<ArenaState>

    /// Of the block on the stack. Swift looks up the stack's bounds for more than 1024, which
    /// costs more than it saves.
    package static var stackBytes: Int { 1024 }

    /// From here on a piece is an array of its own, which becomes the value of a `bytes` field
    /// without being copied again.
    static var arrayBytes: Int { 64 << 10 }

    package init(state: UnsafeMutablePointer<ArenaState>) {
        self.state = state
    }

    /// Uninitialized memory, aligned to 8 bytes; nil past the limit or when there is none left.
    package func allocate(_ byteCount: Int) -> UnsafeMutableRawPointer? {
        let (padded, overflow) = byteCount.addingReportingOverflow(7)
        let rounded = padded & ~7
        guard !overflow, byteCount >= 0, rounded <= state.pointee.remaining else {
            state.pointee.isExhausted = true
            return nil
        }
        let piece = state.pointee.cursor
        guard rounded <= state.pointee.end - piece else {
            return state.pointee.allocateOutside(byteCount, rounded: rounded)
        }
        state.pointee.remaining &-= rounded
        state.pointee.cursor = piece + rounded
        return piece
    }

    /// For the writer's own data, where there is no limit: traps when memory is used up.
    package func allocateOrTrap(_ byteCount: Int) -> UnsafeMutableRawPointer {
        guard let memory = allocate(byteCount) else { fatalError("out of memory") }
        return memory
    }

    /// The allocator that protobuf-c takes. What it frees stays where it is until the end.
    var allocator: ProtobufCAllocator {
        ProtobufCAllocator(
            alloc: { state, byteCount in
                guard let state else { return nil }
                return Arena(state: state.assumingMemoryBound(to: ArenaState.self))
                    .allocate(byteCount)
            },
            free: { _, _ in },
            allocator_data: UnsafeMutableRawPointer(state))
    }
}

/// Where an arena stands. It stays in one place while the arena is used.
package struct ArenaState {
    fileprivate(set) var cursor: UnsafeMutableRawPointer
    private(set) var end: UnsafeMutableRawPointer
    /// Bytes that may still be given out.
    fileprivate(set) var remaining: Int
    /// An allocation was refused.
    fileprivate(set) var isExhausted = false
    /// The newest block from malloc; each begins with the address of the one before.
    private var newestBlock: UnsafeMutableRawPointer?
    private var nextBlockBytes = 4 << 10
    /// The pieces that are arrays, in the order they were given out.
    private var arrays: [[UInt8]] = []

    /// - Parameters:
    ///   - block: Where to begin; not empty, and valid as long as the arena is used.
    ///   - limit: The most bytes that are given out.
    package init(block: UnsafeMutableRawBufferPointer, limit: Int) {
        guard let start = block.baseAddress else { fatalError("an arena without a first block") }
        cursor = start
        end = start + block.count
        remaining = limit
    }

    fileprivate mutating func allocateOutside(
        _ byteCount: Int, rounded: Int
    ) -> UnsafeMutableRawPointer? {
        if byteCount >= Arena.arrayBytes { return allocateArray(byteCount, rounded: rounded) }
        let header = 16
        let blockBytes = max(nextBlockBytes, rounded + header)
        guard let block = malloc(blockBytes) else {
            isExhausted = true
            return nil
        }
        block.storeBytes(of: newestBlock, as: UnsafeMutableRawPointer?.self)
        newestBlock = block
        nextBlockBytes = min(2 * nextBlockBytes, 2 * Arena.arrayBytes)
        cursor = block + header + rounded
        end = block + blockBytes
        remaining &-= rounded
        return block + header
    }

    /// The array's elements are written through the pointer, by protobuf-c alone and before
    /// anything reads the array: it is in one place, and stays there while `arrays` holds it.
    private mutating func allocateArray(
        _ byteCount: Int, rounded: Int
    ) -> UnsafeMutableRawPointer? {
        var address: UnsafeMutableRawPointer?
        let array = [UInt8](unsafeUninitializedCapacity: rounded) { buffer, count in
            address = UnsafeMutableRawPointer(buffer.baseAddress)
            count = byteCount
        }
        arrays.append(array)
        remaining &-= rounded
        return address
    }

    /// The array that a piece is, if it is one.
    func array(at address: UnsafePointer<UInt8>, count: Int) -> [UInt8]? {
        guard count >= Arena.arrayBytes else { return nil }
        return arrays.first { array in
            array.withUnsafeBufferPointer { $0.baseAddress == address && $0.count == count }
        }
    }

    /// Gives back what came from malloc. Ends the use of the arena.
    package mutating func freeBlocks() {
        while let block = newestBlock {
            newestBlock = block.load(as: UnsafeMutableRawPointer?.self)
            free(block)
        }
    }
}
