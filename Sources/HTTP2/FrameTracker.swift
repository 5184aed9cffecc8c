// Where the peer stands in what it sends: between two frames, or within one. The codec does not
// tell that, nor of the frames that it passes over, some of which must not be.

/// Follows the frames of one direction by their lengths alone.
struct FrameTracker {
    private static let headBytes = 9
    private static let data: UInt8 = 0
    private static let headers: UInt8 = 1
    private static let priority: UInt8 = 2
    private static let reset: UInt8 = 3
    private static let continuation: UInt8 = 9
    private static let endStream: UInt8 = 1
    private static let endHeaders: UInt8 = 4

    /// Bytes still to come of the payload, or of the preface.
    private var rest: Int
    /// Bytes of a head that has come in part, and its first five: length, type, flags.
    private var headCount = 0
    private var head: UInt64 = 0
    /// Of the frame that is under way; none has the preface's.
    private var type: UInt8 = 255
    private var isInBlock = false
    private var begunAt: UInt64
    /// The frame's stream, and of a PRIORITY frame the stream that it depends on, as far as it
    /// has come.
    private var streamID: UInt32 = 0
    private var dependency: UInt32 = 0
    private var dependencyCount = 0

    /// Frames of types that HTTP/2 does not know, since they were last asked for.
    private(set) var unknownFrames = 0
    /// DATA frames without a byte that end nothing, since they were last asked for.
    private(set) var emptyData = 0
    /// The first frame that may not be, of those that the codec passes over: a PRIORITY frame by
    /// which a stream depends on itself (RFC 7540, 5.3.1), or a frame that follows the peer's
    /// last one on a stream (RFC 9113, 5.1).
    private(set) var violation: HTTP2ErrorCode?
    /// The streams on which the peer's last frame has come. Of the last few alone: the codec
    /// would keep a whole record of each.
    private var ended = SIMD16<UInt32>(repeating: .max)
    private var nextEnded = 0
    private var highestEnded: UInt32 = 0

    /// - Parameter prefaceBytes: what comes before the first frame.
    init(prefaceBytes: Int, now: UInt64) {
        rest = prefaceBytes
        begunAt = now
    }

    /// When the frame, or the header block, that is not complete was begun. Of DATA: when bytes
    /// of it came last, as it may be large.
    var unfinishedSince: UInt64? {
        rest > 0 || headCount > 0 || isInBlock ? begunAt : nil
    }

    mutating func forgetCounts() {
        unknownFrames = 0
        emptyData = 0
    }

    mutating func advance(over bytes: UnsafeRawBufferPointer, now: UInt64) {
        var position = 0
        if rest > 0, type == Self.data { begunAt = now }
        while position < bytes.count {
            if rest > 0 {
                let taken = min(rest, bytes.count - position)
                if type == Self.priority { readPriority(bytes[position..<(position + taken)]) }
                rest -= taken
                position += taken
                continue
            }
            if headCount == 0, !isInBlock { begunAt = now }
            if headCount == 0, bytes.count - position >= Self.headBytes {
                let first = bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self)
                head = UInt64(bigEndian: first) >> 24
                streamID = UInt32(
                    bigEndian: bytes.loadUnaligned(fromByteOffset: position + 5, as: UInt32.self))
                position += Self.headBytes
                beginFrame()
                continue
            }
            if headCount < 5 {
                head = head << 8 | UInt64(bytes[position])
            } else {
                streamID = streamID << 8 | UInt32(bytes[position])
            }
            headCount += 1
            position += 1
            if headCount == Self.headBytes { beginFrame() }
        }
    }

    private mutating func beginFrame() {
        rest = Int(head >> 16 & 0xff_ffff)
        type = UInt8(head >> 8 & 0xff)
        let flags = UInt8(head & 0xff)
        head = 0
        headCount = 0
        dependency = 0
        dependencyCount = 0
        noteStream(flags)
        if type == Self.headers || type == Self.continuation {
            isInBlock = flags & Self.endHeaders == 0
        } else if type > Self.continuation {
            unknownFrames += 1
        } else if type == Self.data, rest == 0, flags & Self.endStream == 0 {
            emptyData += 1
        }
    }

    private mutating func readPriority(_ bytes: Slice<UnsafeRawBufferPointer>) {
        for byte in bytes.prefix(4 - dependencyCount) {
            dependency = dependency << 8 | UInt32(byte)
            dependencyCount += 1
            // The highest bit of each is no part of the number.
            if dependencyCount == 4, (dependency ^ streamID) << 1 == 0 { violate(.protocolError) }
        }
    }

    private mutating func noteStream(_ flags: UInt8) {
        let carries = type == Self.data || type == Self.headers
        guard carries || type == Self.reset else { return }
        let id = streamID & 0x7fff_ffff
        if carries, id <= highestEnded, any(ended .== SIMD16(repeating: id)) {
            violate(.streamClosed)
        }
        guard !carries || flags & Self.endStream != 0 else { return }
        ended[nextEnded] = id
        nextEnded = (nextEnded + 1) & 15
        highestEnded = max(highestEnded, id)
    }

    private mutating func violate(_ code: HTTP2ErrorCode) {
        if violation == nil { violation = code }
    }
}
