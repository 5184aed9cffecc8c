// Bytes waiting to be sent on one stream. Small pieces are put together, large ones kept as
// they are.

import DequeModule
import NIOCore

/// A first-in first-out queue of bytes. Its limit is kept by who fills it.
struct ByteQueue {
    /// Pieces up to that size are copied behind the last one.
    private static let copiedBytes = 4096
    /// A piece that others are copied behind grows no further than that.
    private static let mergedBytes = 32 * 1024

    private var first = ByteBuffer()
    private var rest = Deque<ByteBuffer>()
    private(set) var count = 0

    mutating func append(copying bytes: UnsafeRawBufferPointer, from pool: HTTP2Session) {
        append(count: bytes.count, from: pool) { $0.copyMemory(from: bytes) }
    }

    mutating func append(
        count added: Int, from pool: HTTP2Session, _ fill: (UnsafeMutableRawBufferPointer) -> Void
    ) {
        guard added > 0 else { return }
        func write(_ buffer: inout ByteBuffer) {
            buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: added) { room in
                fill(UnsafeMutableRawBufferPointer(rebasing: room[0..<added]))
                return added
            }
        }
        if count == 0 {
            if first.capacity == 0 { first = pool.takeBuffer() } else { first.clear() }
            write(&first)
        } else if rest.isEmpty, first.readableBytes < Self.mergedBytes {
            write(&first)
        } else if let last = rest.indices.last, rest[last].readableBytes < Self.mergedBytes {
            write(&rest[last])
        } else {
            var own = ByteBufferAllocator().buffer(capacity: added)
            write(&own)
            rest.append(own)
        }
        count += added
    }

    mutating func append(_ buffer: ByteBuffer, from pool: HTTP2Session) {
        if buffer.readableBytes <= Self.copiedBytes {
            buffer.withUnsafeReadableBytes { append(copying: $0, from: pool) }
            return
        }
        if count == 0 { first = buffer } else { rest.append(buffer) }
        count += buffer.readableBytes
    }

    /// Moves the first `destination.count` bytes there; the queue has at least as many.
    mutating func pop(into destination: UnsafeMutableRawBufferPointer) {
        precondition(destination.count <= count, "more bytes asked for than are queued")
        var filled = 0
        while filled < destination.count {
            if first.readableBytes == 0, let following = rest.popFirst() { first = following }
            let taken = min(first.readableBytes, destination.count - filled)
            first.withUnsafeReadableBytes {
                destination.baseAddress!.advanced(by: filled)
                    .copyMemory(from: $0.baseAddress!, byteCount: taken)
            }
            first.moveReaderIndex(forwardBy: taken)
            filled += taken
        }
        count -= filled
    }

    /// Drops all behind the first `kept` bytes.
    mutating func truncate(to kept: Int) {
        guard kept < count else { return }
        count = kept
        var room = kept
        let own = min(first.readableBytes, room)
        first.moveWriterIndex(to: first.readerIndex + own)
        room -= own
        var whole = 0
        while whole < rest.count, room > 0 {
            let part = min(rest[whole].readableBytes, room)
            rest[whole].moveWriterIndex(to: rest[whole].readerIndex + part)
            room -= part
            whole += 1
        }
        rest.removeLast(rest.count - whole)
    }

    /// Empties the queue; small storage goes back to `pool`.
    mutating func recycle(to pool: HTTP2Session) {
        if first.capacity > 0 { pool.giveBack(first) }
        first = ByteBuffer()
        rest.removeAll()
        count = 0
    }
}
