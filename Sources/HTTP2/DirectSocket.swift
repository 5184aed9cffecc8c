// A channel's socket, written to without the channel as long as that has nothing queued: the
// bytes of bodies leave from where they lie, and small writes cost a system call alone.
// What the socket does not take goes the channel's way, and so do the errors.

internal import NIOCore

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#else
    internal import Darwin
#endif

/// Confined to the channel's event loop.
final class DirectSocket {
    private let descriptor: CInt

    /// Nil where the channel has no socket of its own.
    init?(of context: ChannelHandlerContext) {
        let operations = context.channel.pipeline.syncOperations
        let found = try? operations.withUnsafeTransportIfAvailable {
            (transport: NIOBSDSocket.Handle) in transport
        }
        guard let found = found ?? nil, found >= 0 else { return nil }
        descriptor = found
    }

    /// Writes `piece` with `lent` in between. Only while the channel has nothing queued. Returns
    /// a copy of what the socket did not take; nil: it took all.
    func write(_ piece: ByteBuffer, _ lent: [LentBytes]) -> ByteBuffer? {
        let count = piece.readableBytes + lent.reduce(0) { $0 + $1.bytes.count }
        guard count > 0 else { return nil }
        let written = piece.withUnsafeReadableBytes { bytes in
            lent.isEmpty ? send(bytes) : send(Self.parts(of: bytes, lent))
        }
        guard written < count else { return nil }
        var rest = ByteBufferAllocator().buffer(capacity: count - written)
        piece.withUnsafeReadableBytes { bytes in
            var skipped = written
            for part in Self.parts(of: bytes, lent) {
                let start = min(skipped, part.count)
                skipped -= start
                rest.writeBytes(UnsafeRawBufferPointer(rebasing: part[start...]))
            }
        }
        return rest
    }

    /// What goes out, in order, in one piece each.
    private static func parts(
        of bytes: UnsafeRawBufferPointer, _ lent: [LentBytes]
    ) -> [UnsafeRawBufferPointer] {
        var parts: [UnsafeRawBufferPointer] = []
        parts.reserveCapacity(2 * lent.count + 1)
        var start = 0
        for loan in lent {
            parts.append(UnsafeRawBufferPointer(rebasing: bytes[start..<loan.position]))
            parts.append(loan.bytes)
            start = loan.position
        }
        parts.append(UnsafeRawBufferPointer(rebasing: bytes[start...]))
        return parts
    }

    /// How many bytes the socket took; none where it failed, which the channel will find.
    private func send(_ bytes: UnsafeRawBufferPointer) -> Int {
        while true {
            let sent = systemSend(descriptor, bytes.baseAddress, bytes.count)
            if sent >= 0 { return sent }
            if errno != EINTR { return 0 }
        }
    }

    private func send(_ parts: [UnsafeRawBufferPointer]) -> Int {
        var vectors = parts.map {
            iovec(iov_base: UnsafeMutableRawPointer(mutating: $0.baseAddress), iov_len: $0.count)
        }
        return vectors.withUnsafeMutableBufferPointer { vectors in
            var message = msghdr()
            message.msg_iov = vectors.baseAddress
            message.msg_iovlen = .init(vectors.count)
            while true {
                let sent = sendmsg(descriptor, &message, noSignal)
                if sent >= 0 { return sent }
                if errno != EINTR { return 0 }
            }
        }
    }
}

#if canImport(Darwin)
    /// The channel has set SO_NOSIGPIPE.
    private let noSignal: CInt = 0
#else
    private let noSignal = CInt(MSG_NOSIGNAL)
#endif

private func systemSend(_ socket: CInt, _ start: UnsafeRawPointer?, _ count: Int) -> Int {
    send(socket, start, count, noSignal)
}
