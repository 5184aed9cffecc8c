// What an HTTP/2 endpoint announces, and the limits it holds its peer to. Only values.

/// A token bucket: `burst` at once, `perSecond` regained every second.
public struct FloodLimit: Sendable, Equatable {
    public var burst: Int
    public var perSecond: Int

    public init(burst: Int, perSecond: Int) {
        self.burst = burst
        self.perSecond = perSecond
    }
}

/// How often a peer may send what costs it nothing. Beyond a limit the connection gets a GOAWAY
/// with ENHANCE_YOUR_CALM and is closed.
public struct HTTP2Limits: Sendable, Equatable {
    /// PING frames, but for acknowledgements that were asked for, since this side sent HEADERS
    /// or DATA: gRPC's bandwidth estimation sends one in each round trip while it receives.
    public var pings = FloodLimit(burst: 100, perSecond: 20)
    /// SETTINGS frames that are no acknowledgements.
    public var settings = FloodLimit(burst: 32, perSecond: 2)
    /// WINDOW_UPDATE frames beyond two for each HEADERS or DATA frame, and one for each 512
    /// bytes, that this side sent.
    public var windowUpdates = FloodLimit(burst: 4096, perSecond: 512)
    /// DATA frames with neither bytes, but for padding, nor END_STREAM.
    public var emptyData = FloodLimit(burst: 128, perSecond: 16)
    /// PRIORITY frames. Nothing here is prioritized.
    public var priorities = FloodLimit(burst: 256, perSecond: 32)
    /// Frames of types that HTTP/2 does not have, or that extend it. They are passed over.
    public var unknownFrames = FloodLimit(burst: 100, perSecond: 20)
    /// RST_STREAM frames received ("rapid reset", CVE-2023-44487).
    public var resets = FloodLimit(burst: 1024, perSecond: 256)
    /// RST_STREAM frames that the peer's errors made this side send (CVE-2025-8671).
    public var provokedResets = FloodLimit(burst: 128, perSecond: 16)
    /// PING and SETTINGS acknowledgements waiting for a peer that does not read.
    public var unreadAcknowledgements = 1000
    /// Frames but DATA waiting for such a peer, beyond four for each stream that it may have:
    /// answers to streams that it has reset since are among them.
    public var unreadFrames = 4096
    /// Entries of one SETTINGS frame.
    public var settingsEntries = 32
    /// CONTINUATION frames of one header block.
    public var continuations = 8

    public init() {}
}

/// What an HTTP/2 endpoint announces and holds to.
public struct HTTP2Configuration: Sendable, Equatable {
    /// Streams that the peer may have open at once.
    public var maxConcurrentStreams = 1024
    /// Bytes of one header block, counted as HPACK does: name, value and 32 for each field.
    /// At most 60 KiB. A larger block is read to its end (its compression state is shared with
    /// all that follow) but not kept; one above 256 KiB ends the connection.
    public var maxHeaderListBytes = 16 * 1024
    /// Bytes that the peer may send on one stream before they are consumed, unless its window
    /// is grown. That times ``maxConcurrentStreams`` is the most that a connection holds.
    public var streamWindowBytes = 1024 * 1024
    /// Bytes that the peer may send on all streams together before they are given back to it.
    public var connectionWindowBytes = 4 * 1024 * 1024
    /// Bytes are given back to the connection's window as they are received, whatever becomes of
    /// them: streams that nobody reads would stop all others. Else the owner does so, by
    /// ``HTTP2Session/consumeConnection(_:)``.
    public var creditsConnectionOnReceipt = true
    /// Largest frame that the peer may send.
    public var maxFrameBytes = 256 * 1024
    /// Largest DATA frame that this side sends, where the peer allows it.
    public var maxSentDataBytes = 64 * 1024
    /// Bytes given to the socket at once. While they are not written nothing more is produced.
    public var outputPieceBytes = 256 * 1024
    /// A field whose value changes with each call. It is kept out of the header block, so that
    /// blocks of calls that are otherwise alike can be shared. Lower case, nil: none.
    public var volatileField: String?
    /// A server's: `:authority` may be a path, as peers of a unix socket send it. The codec's own
    /// rules for requests are off then, and `RequestRules` take their place.
    public var acceptsPathAsAuthority = false
    public var limits = HTTP2Limits()

    public init() {}
}
