// Error codes of HTTP/2 (RFC 9113, section 7) and what can go wrong with a whole session.
// Never knows why a stream was reset, only with which number.

/// The code of a RST_STREAM or GOAWAY frame.
public struct HTTP2ErrorCode: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt32

    @inlinable
    public init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    public static let noError = HTTP2ErrorCode(rawValue: 0x0)
    public static let protocolError = HTTP2ErrorCode(rawValue: 0x1)
    public static let internalError = HTTP2ErrorCode(rawValue: 0x2)
    public static let flowControlError = HTTP2ErrorCode(rawValue: 0x3)
    public static let settingsTimeout = HTTP2ErrorCode(rawValue: 0x4)
    public static let streamClosed = HTTP2ErrorCode(rawValue: 0x5)
    public static let frameSizeError = HTTP2ErrorCode(rawValue: 0x6)
    public static let refusedStream = HTTP2ErrorCode(rawValue: 0x7)
    public static let cancel = HTTP2ErrorCode(rawValue: 0x8)
    public static let compressionError = HTTP2ErrorCode(rawValue: 0x9)
    public static let connectError = HTTP2ErrorCode(rawValue: 0xa)
    public static let enhanceYourCalm = HTTP2ErrorCode(rawValue: 0xb)
    public static let inadequateSecurity = HTTP2ErrorCode(rawValue: 0xc)
    public static let http11Required = HTTP2ErrorCode(rawValue: 0xd)
}

/// Why a session can no longer be used.
public enum HTTP2Error: Error, Equatable, Sendable {
    /// The first bytes of a connection are not HTTP/2's preface.
    case badPreface
    /// The codec found a flood of frames (acknowledgements, SETTINGS, CONTINUATION).
    case flooded
    /// Any other failure of the codec, with its own number.
    case codec(Int32)
    /// The connection ended while streams were open.
    case connectionClosed
}

/// What a peer did too often. Each has a limit in ``HTTP2Limits``.
public enum HTTP2Flood: String, Hashable, Sendable, CaseIterable {
    case pings
    case settings
    case windowUpdates = "window updates"
    case emptyData = "empty DATA frames"
    case priorities
    case unknownFrames = "frames of unknown types"
    case resets
    case provokedResets = "resets provoked from this side"
    case acknowledgements = "frames whose answers are not read"
}
