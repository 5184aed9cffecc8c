// The memory of one decoding or encoding: taken piece by piece, given back at once. Knows no
// message.
import CProtobufC
import Glibc

/// Where C structs and what they point to live, for the time of one call.
///
/// The first piece is on the stack, so that a small message never allocates. No global state: an
/// arena belongs to the call that made it.
package struct Arena {
    let state: UnsafeMutablePointer<ArenaState>

    init(state: UnsafeMutablePointer<ArenaState>) {
        self.state = state
    }

    /// Up to this much is on the stack. Swift checks the stack's bounds for more than 1024, which
    /// costs more than it saves.
    static var stackBytes: Int { 1024 }

    /// From here on a piece is an array of its own, which becomes the value of a `bytes` field
    /// without being copied again.
    static var arrayBytes: Int { 64 << 10 }

    /// - Parameter limit: The most bytes that `allocate` gives out.
    package static func with<Result, Failure: Error>(
        limit: Int, _ body: (Arena) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try withUnsafeTemporaryAllocation(byteCount: stackBytes, alignment: 16) {
            block throws(Failure) in
            var state = ArenaState(block: block, limit: limit)
            defer { state.freeBlocks() }
            return try withUnsafeMutablePointer(to: &state) { state throws(Failure) in
                try body(Arena(state: state))
            }
        }
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
            return state.pointee.allocateFromNewBlock(rounded, exactly: byteCount)
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
                let arena = Arena(state: state.assumingMemoryBound(to: ArenaState.self))
                return arena.allocate(byteCount)
            },
            free: { _, _ in },
            allocator_data: UnsafeMutableRawPointer(state))
    }
}

package struct ArenaState {
    var cursor: UnsafeMutableRawPointer
    var end: UnsafeMutableRawPointer
    /// Bytes that may still be given out.
    var remaining: Int
    /// An allocation was refused.
    var isExhausted = false
    /// The newest block from malloc; each begins with the address of the one before.
    var newestBlock: UnsafeMutableRawPointer?
    var nextBlockBytes = 4 << 10
    /// The pieces that are arrays, in the order they were given out.
    var arrays: [[UInt8]] = []

    init(block: UnsafeMutableRawBufferPointer, limit: Int) {
        // A temporary allocation of more than no bytes has an address.
        cursor = block.baseAddress.unsafelyUnwrapped
        end = cursor + block.count
        remaining = limit
    }

    mutating func allocateFromNewBlock(
        _ rounded: Int, exactly byteCount: Int
    ) -> UnsafeMutableRawPointer? {
        if rounded >= Arena.arrayBytes {
            return allocateArray(byteCount, rounded: rounded)
        }
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
        arrays.first { array in
            array.withUnsafeBufferPointer { $0.baseAddress == address && $0.count == count }
        }
    }

    mutating func freeBlocks() {
        if newestBlock != nil { freeMallocedBlocks() }
    }

    mutating func freeMallocedBlocks() {
        while let block = newestBlock {
            newestBlock = block.load(as: UnsafeMutableRawPointer?.self)
            free(block)
        }
    }
}
