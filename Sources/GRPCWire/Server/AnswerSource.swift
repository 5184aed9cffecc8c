// An answer whose messages come from a source, pulled by the stream: no task wakes for any of
// them, and none needs to wait for their end. Knows no message.

public import HTTP2
public import NIOCore

/// What a handler leaves behind when it returns before its call is over.
struct Handover {
    /// Asked at the source's end.
    let status: () -> GRPCStatus
    /// Told how the call has ended.
    let whenOver: (GRPCStatus) -> Void
}

extension ServerCall {
    /// Leaves the answer's body to `source`: wire-ready messages, each with its prefix. The handler
    /// is to return then; the call goes on without a task, and so without a task's memory, until
    /// the source says `.end` or the call is cancelled.
    /// - Parameters:
    ///   - status: asked at the source's end: how the call ends. OK leaves together with the last
    ///     message.
    ///   - whenOver: called once, with the status that the call has ended with, whatever ended it;
    ///     at once where it is over already.
    public func handOver(
        _ source: any BodySource, status: @escaping () -> GRPCStatus,
        whenOver: @escaping (GRPCStatus) -> Void
    ) {
        precondition(handover == nil && streamer == nil, "two sources for one call")
        if isOver { return whenOver(failure ?? GRPCStatus(.cancelled)) }
        if !isHeadSent { sendInitialMetadata(Metadata()) }
        handover = Handover(status: status, whenOver: whenOver)
        stream.attach(source) { [trailers] in
            let status = status()
            return status.code == .ok ? StatusFields.trailers(status, metadata: trailers) : nil
        }
    }

    func endHandover(_ status: GRPCStatus) {
        guard let handover else { return }
        self.handover = nil
        stream.detachSource()
        handover.whenOver(status)
    }

    /// Hands the answer's body to `source`: wire-ready messages, each with its prefix. Returns
    /// when it said `.end`; throws CANCELLED when the call is over before.
    nonisolated(nonsending) public func stream(_ source: any BodySource) async throws(GRPCStatus) {
        if let failure { throw failure }
        if !isHeadSent { sendInitialMetadata(Metadata()) }
        precondition(handover == nil && streamer == nil, "two sources for one call")
        stream.attach(source)
        await withTaskCancellationHandler {
            await withUnsafeContinuation { streamer = $0 }
        } onCancel: {
            eventLoop.execute { self.wakeStreamer() }
        }
        stream.detachSource()
        if let failure { throw failure }
        if Task.isCancelled { throw GRPCStatus(.cancelled, "the task ended") }
    }

    /// One encoded message as it goes out: with its prefix, compressed where the call is. For
    /// a ``stream(_:)``'s source.
    public func framed(_ message: ByteBuffer) -> ByteBuffer {
        let isCompressed = announcedCompression == .gzip
        var body = isCompressed ? message.withUnsafeReadableBytes { pack($0) } : message
        var framed = ByteBufferAllocator().buffer(capacity: 5 + body.readableBytes)
        framed.writeInteger(isCompressed ? 1 : 0, as: UInt8.self)
        framed.writeInteger(UInt32(body.readableBytes))
        framed.writeBuffer(&body)
        return framed
    }

    /// The source given to ``handOver(_:status:whenOver:)`` or ``stream(_:)`` has more.
    public func wake() {
        stream.wake()
    }

    func bodySent() {
        if let handover { finish(handover.status()) }
        wakeStreamer()
    }

    func wakeStreamer() {
        guard let waiting = streamer else { return }
        streamer = nil
        waiting.resume()
    }
}
