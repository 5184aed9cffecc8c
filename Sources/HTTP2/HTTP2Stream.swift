// One stream: what was received at its head, and the queue of what is to be sent.
// Knows no gRPC: bodies are bytes. Confined to its connection's event loop.

public import NIOCore

/// One stream of an ``HTTP2Session``. The session keeps it until the stream is closed.
public final class HTTP2Stream {
    /// The stream's number; 0 until a request has been given to the codec.
    @exclusivity(unchecked) public internal(set) var id: Int32
    /// The request's fields (server) or the response's (client), once they are complete.
    @exclusivity(unchecked) public internal(set) var headers: HeaderBlock?
    /// The fields after the body, where there were any.
    @exclusivity(unchecked) public internal(set) var trailers: HeaderBlock?
    /// The volatile field's value, where the header block had it.
    @exclusivity(unchecked) public internal(set) var volatileValue: ShortValue?
    /// The header block was larger than the limit; its fields were not kept.
    @exclusivity(unchecked) public internal(set) var headersOverLimit = false
    /// The peer has sent its last frame on this stream.
    @exclusivity(unchecked) public internal(set) var remoteEnded = false
    /// The stream is over, or its connection is gone. Nothing can be sent any more.
    @exclusivity(unchecked) public internal(set) var isClosed = false
    /// What the layer above keeps for this stream. Freed by it, at the latest on `closed`.
    @exclusivity(unchecked) public var context: AnyObject?
    /// Set to be told (by an event) when the queue has less than ``lowWaterBytes``.
    @exclusivity(unchecked) public var wantsDrained = false
    /// Below that many queued bytes a stream that wants it is told so.
    public static let lowWaterBytes = 16 * 1024

    @exclusivity(unchecked) unowned(unsafe) var session: HTTP2Session?
    @exclusivity(unchecked) var next: Unmanaged<HTTP2Stream>?
    @exclusivity(unchecked) var previous: Unmanaged<HTTP2Stream>?
    @exclusivity(unchecked) var unconsumedBytes = 0
    /// Bytes of the body that its `content-length` has announced and that have not come.
    var missingBytes: Int?
    @exclusivity(unchecked) var queue = ByteQueue()
    @exclusivity(unchecked) var source: (any BodySource)?
    @exclusivity(unchecked) var sourceAnnounced = false
    @exclusivity(unchecked) var sourceIsLast = false
    @exclusivity(unchecked) var isEnded = false
    @exclusivity(unchecked) var isDeferred = false
    @exclusivity(unchecked) var hasStarted = false
    @exclusivity(unchecked) var endTrailers: HeaderList?
    /// Asked when the attached source is at its end: with trailers, they end the stream right
    /// there, in the same piece of output.
    @exclusivity(unchecked) var trailersAtBodyEnd: (() -> HeaderList?)?

    init(id: Int32, session: HTTP2Session) {
        self.id = id
        self.session = session
    }

    /// Bytes of DATA sent so far.
    @exclusivity(unchecked) public private(set) var sentBytes = 0

    /// Bytes queued by ``enqueue(_:)`` that have not been sent.
    public var queuedBytes: Int { queue.count }

    /// Answers a request: the fields now, the body from the queue or an attached source.
    public func respond(_ headers: HeaderList) {
        session?.respond(self, headers)
    }

    /// Answers a request with fields alone.
    public func respondOnly(_ headers: HeaderList) {
        session?.respondOnly(self, headers)
    }

    /// Drops what is queued behind its first `kept` bytes, and what is attached, but for the rest
    /// of what that has begun. Before an end that cannot wait.
    public func discardQueue(keeping kept: Int = 0) {
        guard let session else { return }
        if kept == 0 { queue.recycle(to: session) } else { queue.truncate(to: kept) }
        guard let given = source else { return }
        source = nil
        let rest = given.rest()
        if rest.readableBytes > 0 { queue.append(rest, from: session) }
    }

    /// Queues a copy of `bytes`. Nothing happens on a closed stream.
    public func enqueue(copying bytes: UnsafeRawBufferPointer) {
        guard let session, !isEnded else { return }
        queue.append(copying: bytes, from: session)
        session.wake(self)
    }

    /// Queues `count` bytes that `fill` writes; it must write all of them.
    public func enqueue(count: Int, _ fill: (UnsafeMutableRawBufferPointer) -> Void) {
        guard let session, !isEnded else { return }
        queue.append(count: count, from: session, fill)
        session.wake(self)
    }

    /// Queues `buffer` as it is.
    public func enqueue(_ buffer: ByteBuffer) {
        guard let session, !isEnded else { return }
        queue.append(buffer, from: session)
        session.wake(self)
    }

    /// Lets the body go on from `source`, once the queue is empty. An event tells its end.
    /// - Parameter trailersAtEnd: asked at the source's end; what it returns ends the stream.
    public func attach(
        _ source: any BodySource, trailersAtEnd: (() -> HeaderList?)? = nil
    ) {
        guard let session, !isEnded else { return }
        self.source = source
        trailersAtBodyEnd = trailersAtEnd
        session.wake(self)
    }

    /// Drops what was attached; what it announced but was not asked to copy is lost.
    public func detachSource() {
        source = nil
        trailersAtBodyEnd = nil
    }

    /// Ends the body: after what is queued come the trailers, or END_STREAM where there are none.
    public func end(trailers: HeaderList?) {
        guard let session, !isEnded else { return }
        isEnded = true
        // Fields need no room in the peer's windows; without any the codec asks for no body.
        if let trailers, queue.count == 0, source == nil, session.isBlocked(self) {
            session.sendTrailers(self, trailers)
            return
        }
        endTrailers = trailers
        session.wake(self)
    }

    /// The attached source, or the queue, may have more.
    public func wake() {
        session?.wake(self)
    }

    /// Gives `count` bytes of received DATA back to the peer's windows.
    public func consume(_ count: Int) {
        session?.consume(self, count)
    }

    /// Lets the peer send up to `bytes` before they are consumed. A window does not shrink.
    public func growWindow(to bytes: Int) {
        session?.growWindow(self, to: bytes)
    }

    /// Ends the stream at once, in both directions.
    public func reset(_ code: HTTP2ErrorCode) {
        session?.reset(self, code)
    }

    /// What the session may send now. Called by the codec.
    func nextBody(limit: Int) -> BodyAvailability {
        sourceAnnounced = false
        if queue.count > 0 {
            let count = min(queue.count, limit)
            let last = isEnded && count == queue.count && source == nil
            return last ? .lastBytes(count) : .bytes(count)
        }
        if let source {
            switch source.available(limit: limit) {
            case .bytes(let count):
                sourceAnnounced = true
                return .bytes(count)
            case .lastBytes(let count) where count > 0:
                sourceAnnounced = true
                sourceIsLast = true
                return .bytes(count)
            case .later:
                return .later
            case .end, .lastBytes:
                bodyEnded()
            }
        }
        return isEnded ? .end : .later
    }

    /// What `nextBody` announced, where the source lends it, and the source; else it is to be
    /// copied.
    func lendBody(_ count: Int) -> (bytes: UnsafeRawBufferPointer, owner: any BodySource)? {
        guard sourceAnnounced, !sourceIsLast, let source, let lent = source.lend(count) else {
            return nil
        }
        precondition(lent.count == count, "a body source lends other than it announced")
        sourceAnnounced = false
        sentBytes += count
        return (lent, source)
    }

    /// Copies what `nextBody` announced.
    func copyBody(into destination: UnsafeMutableRawBufferPointer) {
        sentBytes += destination.count
        guard sourceAnnounced else {
            queue.pop(into: destination)
            if wantsDrained, queue.count < Self.lowWaterBytes {
                wantsDrained = false
                session?.append(.drained(self))
            }
            return
        }
        sourceAnnounced = false
        guard let source else {
            // Detached between the announcement and now: the length is on the wire already.
            destination.initializeMemory(as: UInt8.self, repeating: 0)
            return
        }
        source.copy(into: destination)
        if sourceIsLast {
            sourceIsLast = false
            bodyEnded()
        }
    }

    private func bodyEnded() {
        source = nil
        session?.append(.bodySent(self))
        if let trailers = trailersAtBodyEnd?() {
            isEnded = true
            endTrailers = trailers
        }
        trailersAtBodyEnd = nil
    }
}
