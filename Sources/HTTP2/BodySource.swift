// What a stream sends: pulled, never pushed. Knows nothing of frames.

public import NIOCore

/// What a ``BodySource`` has to offer at this moment.
public enum BodyAvailability: Equatable, Sendable {
    /// That many bytes, at least 1 and at most the limit that was asked with.
    case bytes(Int)
    /// That many bytes (0 is allowed), and then the body is at its end.
    case lastBytes(Int)
    /// Nothing now; the source's owner wakes the stream when there is more.
    case later
    /// The body is at its end.
    case end
}

/// What a stream sends, pulled by the session when the peer's windows and the socket have room.
///
/// Called on the connection's event loop only, and never from within a call of its own to the
/// stream. It must not call back into the stream.
public protocol BodySource: AnyObject {
    /// How much can be sent now, at most `limit` bytes (limit >= 1).
    func available(limit: Int) -> BodyAvailability
    /// Copies exactly the bytes just announced. Called right after `available`.
    func copy(into destination: UnsafeMutableRawBufferPointer)
    /// The bytes just announced where they lie, to be sent from there instead of being copied:
    /// called in place of `copy`, and as final. The source keeps them as they are until it is
    /// asked for anything else or is released; the session keeps the source at least as long as
    /// it uses the bytes. Nil: they must be copied.
    func lend(_ count: Int) -> UnsafeRawBufferPointer?
    /// A copy of what completes the unit that has been begun; empty between two units, and where
    /// that is too much to be kept. Asked for once, when the source is given up before its end.
    func rest() -> ByteBuffer
}

extension BodySource {
    public func lend(_ count: Int) -> UnsafeRawBufferPointer? { nil }

    /// Of a source whose bytes may be cut anywhere.
    public func rest() -> ByteBuffer { ByteBuffer() }
}
