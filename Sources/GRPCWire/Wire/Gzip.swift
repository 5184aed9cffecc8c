// gzip over zlib, whole messages at a time, with a limit on what comes out. Knows no call.

internal import CZlib
import NIOCore

/// How messages are compressed.
public enum CompressionAlgorithm: String, Sendable, CaseIterable {
    case identity
    case gzip
}

enum Gzip {
    /// Window of 32 KiB, with the gzip header.
    fileprivate static let windowBits: Int32 = 15 + 16
    private static let stepBytes = 64 * 1024

    /// Decompresses one message, which may have several members; stops as soon as more than
    /// `limitBytes` come out.
    static func inflate(_ input: ByteBuffer, limitBytes: Int) throws(GRPCStatus) -> ByteBuffer {
        // zlib's state points back to its stream, which therefore must not move.
        let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
        stream.initialize(to: z_stream())
        defer { stream.deallocate() }
        guard
            inflateInit2_(
                stream, windowBits, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK
        else { throw GRPCStatus(.internal, "out of memory for decompression") }
        defer { inflateEnd(stream) }
        // One more than is allowed tells that there is more.
        let mostBytes = min(limitBytes, Int.max - 1) + 1
        var output = ByteBufferAllocator().buffer(
            capacity: min(max(input.readableBytes * 4, 256), stepBytes, mostBytes))
        var result = Z_OK
        var isOverLimit = false
        input.withUnsafeReadableBytes { bytes in
            stream.pointee.next_in = UnsafeMutablePointer(
                mutating: bytes.baseAddress?.assumingMemoryBound(to: UInt8.self))
            stream.pointee.avail_in = UInt32(bytes.count)
            repeat {
                let room = min(stepBytes, mostBytes - output.readableBytes)
                let before = output.readableBytes
                output.writeWithUnsafeMutableBytes(minimumWritableBytes: room) { target in
                    stream.pointee.next_out = target.baseAddress?.assumingMemoryBound(
                        to: UInt8.self)
                    stream.pointee.avail_out = UInt32(min(target.count, room))
                    let offered = stream.pointee.avail_out
                    result = CZlib.inflate(stream, Z_NO_FLUSH)
                    return Int(offered - stream.pointee.avail_out)
                }
                isOverLimit = output.readableBytes > limitBytes
                if result == Z_STREAM_END, stream.pointee.avail_in > 0 {
                    result = inflateReset(stream)
                    continue
                }
                if output.readableBytes == before, stream.pointee.avail_in == 0 { break }
            } while result == Z_OK && !isOverLimit
        }
        guard !isOverLimit else {
            throw GRPCStatus(
                .resourceExhausted, "a message decompresses to more than \(limitBytes) bytes")
        }
        guard result == Z_STREAM_END, stream.pointee.avail_in == 0 else {
            throw GRPCStatus(.internal, "a compressed message is damaged")
        }
        return output
    }

    /// Compresses one message.
    static func deflate(_ input: UnsafeRawBufferPointer) -> ByteBuffer {
        Deflater().deflate(input)
    }
}

/// Compresses messages one by one, keeping its 256 KiB of tables between them.
final class Deflater {
    private let stream: UnsafeMutablePointer<z_stream>

    init() {
        // zlib's state points back to its stream, which therefore must not move.
        stream = .allocate(capacity: 1)
        stream.initialize(to: z_stream())
        let ready = deflateInit2_(
            stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, Gzip.windowBits, 8, Z_DEFAULT_STRATEGY,
            ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
        precondition(ready == Z_OK, "out of memory for compression")
    }

    deinit {
        deflateEnd(stream)
        stream.deallocate()
    }

    /// One message as a gzip member of its own.
    func deflate(_ input: UnsafeRawBufferPointer) -> ByteBuffer {
        deflateReset(stream)
        let bound = Int(deflateBound(stream, UInt(input.count)))
        var output = ByteBufferAllocator().buffer(capacity: bound)
        stream.pointee.next_in = UnsafeMutablePointer(
            mutating: input.baseAddress?.assumingMemoryBound(to: UInt8.self))
        stream.pointee.avail_in = UInt32(input.count)
        output.writeWithUnsafeMutableBytes(minimumWritableBytes: bound) { target in
            stream.pointee.next_out = target.baseAddress?.assumingMemoryBound(to: UInt8.self)
            stream.pointee.avail_out = UInt32(target.count)
            let offered = stream.pointee.avail_out
            let result = CZlib.deflate(stream, Z_FINISH)
            precondition(result == Z_STREAM_END, "a compressed message exceeded its bound")
            return Int(offered - stream.pointee.avail_out)
        }
        return output
    }
}
