// HTTP/2 without I/O, over nghttp2: bytes in become events, streams become bytes out.
// Knows no socket, no clock and no gRPC.
//
// Ownership: the codec holds one retain of each open HTTP2Stream (taken when its header block
// begins or its request is submitted, given back when it closes or the session is closed).

internal import CNGHTTP2
public import NIOCore

/// What happened, in order. The owner acts on it after the codec has returned.
public enum HTTP2Event {
    /// The request's, or response's, fields are complete: ``HTTP2Stream/headers``.
    case headers(HTTP2Stream)
    /// ``HTTP2Stream/trailers`` are complete.
    case trailers(HTTP2Stream)
    /// DATA: `count` bytes at `offset` of what was given to ``HTTP2Session/receive(_:now:)``.
    case data(HTTP2Stream, offset: Int, count: Int)
    /// The peer has ended its side.
    case end(HTTP2Stream)
    /// The stream is over; nil: its connection was lost.
    case closed(HTTP2Stream, HTTP2ErrorCode?)
    /// The stream's queue fell below its low-water mark.
    case drained(HTTP2Stream)
    /// The attached source was at its end.
    case bodySent(HTTP2Stream)
    /// The peer's settings changed.
    case settings
    /// A PING of this side was answered.
    case pong(UInt64)
    /// The peer takes no new streams; those above `lastStreamID` were not processed.
    case goAway(lastStreamID: Int32, HTTP2ErrorCode, message: String)
    /// The peer went over a limit; the connection is being terminated.
    case flood(HTTP2Flood)
}

/// A part of what is to be sent that was left where it lies.
public struct LentBytes {
    /// How many of the output buffer's readable bytes go before it.
    public let position: Int
    /// Valid until the session is used again, and as long as this value is kept.
    public let bytes: UnsafeRawBufferPointer
    /// The source that the bytes belong to: its stream may have let go of it already.
    let owner: any BodySource
}

/// One end of an HTTP/2 connection. Confined to one thread at a time.
///
/// Its fields, and those of its streams, are touched dozens of times for each call and by one
/// method at a time, so that they forgo the runtime's checks of exclusive access (an eighth of
/// a call's cost).
public final class HTTP2Session {
    public enum Role: Sendable { case server, client }

    public let role: Role
    public let configuration: HTTP2Configuration
    /// Called when there may be something to send, outside of ``receive(_:now:)`` too.
    @exclusivity(unchecked) public var outputWanted: (() -> Void)?
    /// The streams open now.
    @exclusivity(unchecked) public private(set) var openStreams = 0
    /// Whether this side has ended the connection, be the GOAWAY sent or not.
    @exclusivity(unchecked) public private(set) var isTerminated = false

    @exclusivity(unchecked) var raw: OpaquePointer?
    @exclusivity(unchecked) var collector: HeaderCollector
    @exclusivity(unchecked) var guardian: FloodGuard
    @exclusivity(unchecked) var tracker: FrameTracker
    @exclusivity(unchecked) var now: UInt64 = 0
    /// PINGs of this side whose answers have not come.
    var unansweredPings = 0
    @exclusivity(unchecked) var input = UnsafeRawBufferPointer(start: nil, count: 0)
    @exclusivity(unchecked) var output = ByteBuffer()
    @exclusivity(unchecked) var outputLimit = 0
    @exclusivity(unchecked) var isPaused = false
    @exclusivity(unchecked) private var lends = false
    @exclusivity(unchecked) private var lent: [LentBytes] = []
    @exclusivity(unchecked) private var lentBytes = 0
    @exclusivity(unchecked) var violation: HTTP2ErrorCode?
    var highestPeerID: Int32 = 0
    var skippedIDs: [ClosedRange<Int32>] = []
    /// Set where the codec does not check what requests are made of.
    @exclusivity(unchecked) var rules: RequestRules?
    @exclusivity(unchecked) private var isLimitAnnounced = false
    @exclusivity(unchecked) private var events: [HTTP2Event] = []
    @exclusivity(unchecked) private var spareEvents: [HTTP2Event] = []
    @exclusivity(unchecked) private var firstStream: Unmanaged<HTTP2Stream>?
    @exclusivity(unchecked) private var spareBuffers: [ByteBuffer] = []

    /// - Parameter now: the time in nanoseconds, of any clock that does not go back.
    public init(role: Role, configuration: HTTP2Configuration, now: UInt64 = 0) {
        self.role = role
        self.configuration = configuration
        self.now = now
        guardian = FloodGuard(configuration.limits, now: now)
        tracker = FrameTracker(
            prefaceBytes: role == .server ? Self.prefaceBytes : 0, now: now)
        collector = HeaderCollector(
            limitBytes: configuration.maxHeaderListBytes,
            volatileName: configuration.volatileField)
        if role == .server, configuration.acceptsPathAsAuthority { rules = RequestRules() }
        raw = makeCodec()
        announce()
    }

    deinit {
        close()
        collector.deallocate()
    }

    // MARK: Bytes

    private static let leastLentBytes = 4096
    /// Of one write: each is two vectors of one system call, which takes 1024.
    private static let mostLent = 256

    /// Takes bytes from the peer; what they mean is in ``takeEvents()`` afterwards.
    /// On a failure a GOAWAY is queued; write what is there and close.
    public func receive(_ bytes: UnsafeRawBufferPointer, now: UInt64) throws(HTTP2Error) {
        guard let raw, bytes.count > 0 else { return }
        self.now = now
        if role == .server { tracker.advance(over: bytes, now: now) }
        input = bytes
        let pointer = bytes.baseAddress!.assumingMemoryBound(to: UInt8.self)
        let taken = nghttp2_session_mem_recv(raw, pointer, bytes.count)
        input = UnsafeRawBufferPointer(start: nil, count: 0)
        if taken < 0 {
            throw fail(Int32(taken))
        }
        if tracker.unknownFrames > 0 || tracker.emptyData > 0 { noteIgnoredFrames() }
        if role == .server, !isTerminated, violation == nil,
            nghttp2_session_get_outbound_queue_size(raw) > mostUnreadFrames
        {
            violation = .enhanceYourCalm
            append(.flood(.acknowledgements))
        }
        if let found = tracker.violation { violate(found) }
        if let violation { terminate(violation) }
        violation = nil
    }

    private var mostUnreadFrames: Int {
        configuration.limits.unreadFrames + 4 * configuration.maxConcurrentStreams
    }

    /// A server's: since when a frame, a header block or the preface has not been complete. In
    /// DATA, since when nothing came of it.
    public var unfinishedSince: UInt64? { tracker.unfinishedSince }

    private static let prefaceBytes = 24

    private func fail(_ code: Int32) -> HTTP2Error {
        switch code {
        case NGHTTP2_ERR_BAD_CLIENT_MAGIC.rawValue:
            terminate(.protocolError)
            return .badPreface
        case NGHTTP2_ERR_FLOODED.rawValue:
            append(.flood(.acknowledgements))
            terminate(.enhanceYourCalm)
            return .flooded
        case NGHTTP2_ERR_TOO_MANY_CONTINUATIONS.rawValue:
            terminate(.enhanceYourCalm)
            return .flooded
        case NGHTTP2_ERR_CALLBACK_FAILURE.rawValue where collector.isBomb:
            terminate(.enhanceYourCalm)
            return .flooded
        default:
            terminate(.internalError)
            return .codec(code)
        }
    }

    /// Appends to `buffer` what is to be sent, until it holds `limit` bytes or slightly more.
    /// True: there is more.
    public func write(into buffer: inout ByteBuffer, limit: Int) throws(HTTP2Error) -> Bool {
        try produce(into: &buffer, limit: limit)
    }

    /// The same, with bodies that their sources lend left where they lie: see ``LentBytes``.
    public func write(
        into buffer: inout ByteBuffer, lending lent: inout [LentBytes], limit: Int
    ) throws(HTTP2Error) -> Bool {
        lends = true
        swap(&self.lent, &lent)
        defer {
            swap(&self.lent, &lent)
            lentBytes = 0
            lends = false
        }
        return try produce(into: &buffer, limit: limit)
    }

    /// What `write` has produced so far.
    var outputBytes: Int { output.readableBytes + lentBytes }

    /// Whether a frame's body of that many bytes may be lent: a small one is as well copied.
    func canLend(_ count: Int) -> Bool {
        lends && count >= Self.leastLentBytes && lent.count < Self.mostLent
    }

    func lend(_ bytes: UnsafeRawBufferPointer, of owner: any BodySource) {
        lent.append(
            LentBytes(position: output.readableBytes, bytes: bytes, owner: owner))
        lentBytes += bytes.count
    }

    private func produce(
        into buffer: inout ByteBuffer, limit: Int
    ) throws(HTTP2Error) -> Bool {
        guard let raw else { return false }
        outputLimit = limit
        swap(&output, &buffer)
        defer { swap(&output, &buffer) }
        while outputBytes < limit {
            var pointer: UnsafePointer<UInt8>?
            let count = nghttp2_session_mem_send(raw, &pointer)
            if count < 0 { throw .codec(Int32(count)) }
            if count == 0 {
                guard isPaused else { return false }
                isPaused = false
                return true
            }
            output.writeBytes(UnsafeRawBufferPointer(start: pointer, count: count))
            if role == .server, !isLimitAnnounced { announceStreamLimit(frameBytes: count) }
        }
        return true
    }

    /// Writes the limit of streams into the SETTINGS frame, if that is what was just written.
    /// The codec was given a higher one: where a peer goes beyond the codec's the connection
    /// ends, and it is the stream that should (RFC 9113, 5.1.2).
    private func announceStreamLimit(frameBytes: Int) {
        let start = output.writerIndex - frameBytes
        guard frameBytes > 9, output.getInteger(at: start + 3, as: UInt8.self) == 4 else { return }
        isLimitAnnounced = true
        let wanted = UInt16(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS.rawValue)
        for entry in stride(from: start + 9, to: output.writerIndex, by: 6)
        where output.getInteger(at: entry, as: UInt16.self) == wanted {
            output.setInteger(UInt32(configuration.maxConcurrentStreams), at: entry + 2)
        }
    }

    /// The events since the last time. Give the array back by ``recycle(_:)``.
    public func takeEvents() -> [HTTP2Event] {
        var taken = spareEvents
        spareEvents = []
        swap(&taken, &events)
        return taken
    }

    public func recycle(_ taken: inout [HTTP2Event]) {
        // A flood's array would hold a megabyte of an idle connection.
        taken.removeAll(keepingCapacity: taken.count <= Self.spareEventCount)
        swap(&taken, &spareEvents)
    }

    private static let spareEventCount = 1024

    public var hasEvents: Bool { !events.isEmpty }

    func append(_ event: HTTP2Event) {
        events.append(event)
    }

    /// Whether nothing will be read or sent any more: time to close the connection.
    public var isFinished: Bool {
        guard let raw else { return true }
        return nghttp2_session_want_read(raw) == 0 && nghttp2_session_want_write(raw) == 0
    }

    /// Whether the peer is still listened to. False after a termination.
    public var wantsRead: Bool {
        guard let raw else { return false }
        return nghttp2_session_want_read(raw) != 0
    }

    // MARK: Streams

    /// Answers a request: the fields now, the body from the stream's queue or source.
    public func respond(_ stream: HTTP2Stream, _ headers: HeaderList) {
        guard let raw, !stream.isClosed, !stream.hasStarted else { return }
        stream.hasStarted = true
        var provider = bodyProvider(stream)
        nghttp2_submit_response(
            raw, stream.id, headers.fields.baseAddress, headers.fields.count, &provider)
        outputWanted?()
    }

    /// Answers a request with fields alone.
    public func respondOnly(_ stream: HTTP2Stream, _ headers: HeaderList) {
        guard let raw, !stream.isClosed, !stream.hasStarted else { return }
        stream.hasStarted = true
        stream.isEnded = true
        nghttp2_submit_response(
            raw, stream.id, headers.fields.baseAddress, headers.fields.count, nil)
        outputWanted?()
    }

    /// Sends a request; its body comes from the stream's queue or source. Nil: no stream can be
    /// opened on this connection any more.
    public func request(_ headers: HeaderList, context: AnyObject?) -> HTTP2Stream? {
        guard let raw, nghttp2_session_check_request_allowed(raw) != 0 else { return nil }
        let stream = HTTP2Stream(id: 0, session: self)
        stream.context = context
        stream.hasStarted = true
        var provider = bodyProvider(stream)
        let id = nghttp2_submit_request(
            raw, nil, headers.fields.baseAddress, headers.fields.count, &provider,
            Unmanaged.passUnretained(stream).toOpaque())
        guard id > 0 else { return nil }
        stream.id = id
        adopt(stream)
        outputWanted?()
        return stream
    }

    private func bodyProvider(_ stream: HTTP2Stream) -> nghttp2_data_provider {
        nghttp2_data_provider(
            source: nghttp2_data_source(ptr: Unmanaged.passUnretained(stream).toOpaque()),
            read_callback: readBodyThunk)
    }

    /// Takes the codec's retain and links the stream to the others.
    func adopt(_ stream: HTTP2Stream) {
        let handle = Unmanaged.passRetained(stream)
        stream.next = firstStream
        firstStream?._withUnsafeGuaranteedRef { $0.previous = handle }
        firstStream = handle
        openStreams += 1
    }

    /// Unlinks the stream and gives back the codec's retain.
    func release(_ stream: HTTP2Stream) {
        if let previous = stream.previous {
            previous._withUnsafeGuaranteedRef { $0.next = stream.next }
        } else {
            firstStream = stream.next
        }
        stream.next?._withUnsafeGuaranteedRef { $0.previous = stream.previous }
        stream.next = nil
        stream.previous = nil
        openStreams -= 1
        stream.unconsumedBytes = 0
        stream.queue.recycle(to: self)
        stream.source = nil
        stream.isClosed = true
        stream.session = nil
        Unmanaged.passUnretained(stream).release()
    }

    /// Calls `body` with each open stream. It must not close any.
    public func forEachStream(_ body: (HTTP2Stream) -> Void) {
        var handle = firstStream
        while let current = handle {
            let stream = current.takeUnretainedValue()
            handle = stream.next
            body(stream)
        }
    }

    func wake(_ stream: HTTP2Stream) {
        guard let raw, !stream.isClosed, stream.hasStarted else { return }
        if stream.isDeferred {
            stream.isDeferred = false
            nghttp2_session_resume_data(raw, stream.id)
        }
        outputWanted?()
    }

    /// Ends a stream whose body has been sent, ahead of the codec's asking for more.
    func sendTrailers(_ stream: HTTP2Stream, _ trailers: HeaderList) {
        guard let raw, !stream.isClosed else { return }
        nghttp2_submit_trailer(
            raw, stream.id, trailers.fields.baseAddress, trailers.fields.count)
        outputWanted?()
    }

    /// Frames but DATA that wait to be sent.
    public var queuedFrames: Int {
        guard let raw else { return 0 }
        return nghttp2_session_get_outbound_queue_size(raw)
    }

    func reset(_ stream: HTTP2Stream, _ code: HTTP2ErrorCode) {
        guard let raw, !stream.isClosed else { return }
        nghttp2_submit_rst_stream(
            raw, UInt8(NGHTTP2_FLAG_NONE.rawValue), stream.id, code.rawValue)
        outputWanted?()
    }

    // MARK: The connection

    /// Sends a PING; its answer is an event with the same payload.
    public func ping(_ payload: UInt64) {
        guard let raw else { return }
        unansweredPings += 1
        withUnsafeBytes(of: payload) {
            _ = nghttp2_submit_ping(
                raw, UInt8(NGHTTP2_FLAG_NONE.rawValue),
                $0.baseAddress!.assumingMemoryBound(to: UInt8.self))
        }
        outputWanted?()
    }

    /// Tells the peer to open no more streams, without refusing any yet.
    public func announceShutdown() {
        guard let raw, role == .server else { return }
        nghttp2_submit_shutdown_notice(raw)
        outputWanted?()
    }

    /// Refuses streams that are new from now on; the others go on.
    public func goAway(_ code: HTTP2ErrorCode) {
        guard let raw else { return }
        nghttp2_submit_goaway(
            raw, UInt8(NGHTTP2_FLAG_NONE.rawValue), nghttp2_session_get_last_proc_stream_id(raw),
            code.rawValue, nil, 0)
        outputWanted?()
    }

    /// Ends the connection at once: GOAWAY, and nothing after it.
    public func terminate(_ code: HTTP2ErrorCode) {
        guard let raw else { return }
        isTerminated = true
        nghttp2_session_terminate_session2(
            raw, nghttp2_session_get_last_proc_stream_id(raw), code.rawValue)
        outputWanted?()
    }

    /// How many streams the peer lets this side have open at once.
    public var peerMaxConcurrentStreams: Int {
        guard let raw else { return 0 }
        return Int(
            nghttp2_session_get_remote_settings(raw, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS))
    }

    /// Closes the session: each open stream gets its `closed` event, the codec is freed.
    public func close() {
        guard let raw else { return }
        self.raw = nil
        while let handle = firstStream {
            let stream = handle.takeUnretainedValue()
            append(.closed(stream, nil))
            release(stream)
        }
        nghttp2_session_del(raw)
        outputWanted = nil
    }

    // MARK: Buffers of small streams

    /// Buffers kept for the queues of streams to come, and the largest of them.
    private static let spareBufferCount = 64
    private static let spareBufferBytes = 4096

    func takeBuffer() -> ByteBuffer {
        guard var buffer = spareBuffers.popLast() else {
            return ByteBufferAllocator().buffer(capacity: 256)
        }
        buffer.clear()
        return buffer
    }

    func giveBack(_ buffer: ByteBuffer) {
        guard buffer.capacity <= Self.spareBufferBytes,
            spareBuffers.count < Self.spareBufferCount
        else { return }
        spareBuffers.append(buffer)
    }
}
