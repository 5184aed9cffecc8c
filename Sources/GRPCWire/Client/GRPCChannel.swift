// What users of the client hold: a channel, the calls that it makes, and their answers as
// typed messages.

public import NIOCore
public import Protobuf
import Synchronization

/// A connection to one server, opened when first needed, shared by all calls, made anew when
/// it is lost; more than one only where the server takes no more calls on it. Ends with
/// ``close()``, or when nothing refers to it any more.
public final class GRPCChannel: Sendable {
    public let target: GRPCTarget
    private let core: ChannelCore
    private let isClosed = Atomic(false)

    /// - Parameter group: one of its event loops is the channel's.
    public init(
        _ target: GRPCTarget, options: GRPCChannelOptions = GRPCChannelOptions(),
        group: any EventLoopGroup
    ) {
        self.target = target
        core = ChannelCore(target: target, options: options, eventLoop: group.next())
    }

    /// Connections made so far on which the server has spoken: a larger number than before tells
    /// that it was there since.
    public var connectionCount: Int { core.connectionCount.load(ordering: .relaxed) }

    /// How often so far the connection was lost, or made way for another: a larger number than
    /// before tells that the server may be another one since.
    public var lossCount: Int { core.lossCount.load(ordering: .relaxed) }

    deinit {
        // Its event loop may be gone by now.
        guard !isClosed.load(ordering: .acquiring) else { return }
        let core = core
        core.eventLoop.execute { core.close() }
    }

    /// Ends all calls with CANCELLED, and the connection. Calls made afterwards fail alike.
    public func close() async {
        let core = core
        isClosed.store(true, ordering: .releasing)
        let closed = core.eventLoop.flatSubmit {
            let future = core.whenClosed()
            core.close()
            return future
        }
        try? await closed.get()
    }

    // MARK: Calls

    /// One message each way.
    nonisolated(nonsending) public func unary<Request, Response>(
        _ method: MethodDescriptor<Request, Response>, _ request: Request,
        options: CallOptions = CallOptions()
    ) async throws(GRPCStatus) -> Response {
        try await unaryWithMetadata(method, request, options: options).message
    }

    /// One message each way, with the metadata that came with it.
    nonisolated(nonsending) public func unaryWithMetadata<Request, Response>(
        _ method: MethodDescriptor<Request, Response>, _ request: Request,
        options: CallOptions = CallOptions()
    ) async throws(GRPCStatus) -> UnaryResponse<Response> {
        let stream = ClientStream(
            path: method.path, options: options, wantsWhole: true, core: core)
        stream.begin(only: MessageFrame.make(request, options.compression))
        return try await Self.single(stream)
    }

    /// One message there, any number back. The call begins at once.
    public func serverStreaming<Request, Response>(
        _ method: MethodDescriptor<Request, Response>, _ request: Request,
        options: CallOptions = CallOptions()
    ) -> ResponseStream<Response> {
        let stream = ClientStream(
            path: method.path, options: options, wantsWhole: false, core: core)
        stream.begin(only: MessageFrame.make(request, options.compression))
        return ResponseStream(CallLease(stream, self))
    }

    /// Any number there, one back: see ``ClientCall/response()``. The call begins at once.
    public func clientStreaming<Request, Response>(
        _ method: MethodDescriptor<Request, Response>, options: CallOptions = CallOptions()
    ) -> ClientCall<Request, Response> {
        makeCall(method, options, wantsWhole: true)
    }

    /// Any number each way. The call begins at once.
    public func bidirectional<Request, Response>(
        _ method: MethodDescriptor<Request, Response>, options: CallOptions = CallOptions()
    ) -> ClientCall<Request, Response> {
        makeCall(method, options, wantsWhole: false)
    }

    private func makeCall<Request, Response>(
        _ method: MethodDescriptor<Request, Response>, _ options: CallOptions, wantsWhole: Bool
    ) -> ClientCall<Request, Response> {
        let stream = ClientStream(
            path: method.path, options: options, wantsWhole: wantsWhole, core: core)
        stream.begin()
        return ClientCall(CallLease(stream, self))
    }

    nonisolated(nonsending) static func single<Response: ProtobufMessage>(
        _ stream: ClientStream
    ) async throws(GRPCStatus) -> UnaryResponse<Response> {
        guard let bytes = try await stream.receive() else {
            throw GRPCStatus(.internal, "the server answered OK without a message")
        }
        let isCompressed = stream.lastMessageWasCompressed
        // The stream itself refuses a second one: this waits for the status.
        _ = try await stream.receive()
        let message: Response = try ServerCall.decode(bytes)
        return UnaryResponse(
            message: message, initialMetadata: try await stream.initialMetadata(),
            trailers: stream.status?.trailers ?? Metadata(), wasCompressed: isCompressed)
    }
}

/// The answer of a call of one message.
public struct UnaryResponse<Message: ProtobufMessage>: Sendable {
    public let message: Message
    public let initialMetadata: Metadata
    public let trailers: Metadata
    /// Whether the message came compressed.
    public let wasCompressed: Bool
}

/// A message as it stands in the stream: flag, length, encoding.
enum MessageFrame {
    static func make<M: ProtobufMessage>(
        _ message: M, _ compression: CompressionAlgorithm
    ) -> ByteBuffer {
        if compression == .gzip {
            var packed = message.withEncoded { Gzip.deflate($0) }
            var frame = ByteBufferAllocator().buffer(capacity: 5 + packed.readableBytes)
            frame.writeInteger(1, as: UInt8.self)
            frame.writeInteger(UInt32(packed.readableBytes))
            frame.writeBuffer(&packed)
            return frame
        }
        var frame = ByteBuffer()
        message.withEncoder { encoder in
            let count = encoder.byteCount
            frame.reserveCapacity(5 + count)
            frame.writeWithUnsafeMutableBytes(minimumWritableBytes: 5 + count) { room in
                ServerCall.writePrefix(room, count, isCompressed: false)
                encoder.write(
                    into: UnsafeMutableRawBufferPointer(rebasing: room[5..<(5 + count)]))
                return 5 + count
            }
        }
        return frame
    }
}

/// Ends the call when nobody holds its answer any more; keeps the channel as long.
final class CallLease: Sendable {
    let stream: ClientStream
    private let channel: GRPCChannel

    init(_ stream: ClientStream, _ channel: GRPCChannel) {
        self.stream = stream
        self.channel = channel
    }

    deinit {
        stream.cancel()
    }
}

/// The messages of an answer, in order. Read by one task at a time; reading slowly holds the
/// server back. Dropping it, and its iterators, ends the call; so does cancelling the task that
/// waits for a message.
public struct ResponseStream<Message: ProtobufMessage>: AsyncSequence, Sendable {
    public typealias Element = Message
    public typealias Failure = GRPCStatus

    let lease: CallLease

    init(_ lease: CallLease) {
        self.lease = lease
    }

    public struct AsyncIterator: AsyncIteratorProtocol {
        let lease: CallLease

        /// The next message; nil: the call ended with status OK. Throws any other status.
        nonisolated(nonsending) public mutating func next() async throws(GRPCStatus) -> Message? {
            try await Self.next(lease)
        }

        public mutating func next(
            isolation actor: isolated (any Actor)?
        ) async throws(GRPCStatus) -> Message? {
            let lease = lease
            return try await Self.next(lease)
        }

        nonisolated(nonsending) private static func next(_ lease: CallLease)
            async throws(GRPCStatus) -> Message?
        {
            guard let bytes = try await lease.stream.receive() else { return nil }
            do throws(GRPCStatus) {
                return try ServerCall.decode(bytes)
            } catch {
                lease.stream.cancel()
                throw error
            }
        }
    }

    public func makeAsyncIterator() -> AsyncIterator {
        AsyncIterator(lease: lease)
    }

    /// The metadata that came before the first message; waits for it.
    public var initialMetadata: Metadata {
        get async throws(GRPCStatus) { try await lease.stream.initialMetadata() }
    }

    /// The metadata after the last message; nil: the call goes on.
    public var trailers: Metadata? { lease.stream.status?.trailers }

    /// Whether the message read last came compressed.
    public var lastMessageWasCompressed: Bool { lease.stream.lastMessageWasCompressed }

    /// Ends the call.
    public func cancel() {
        lease.stream.cancel()
    }
}

/// Tells when a call has ended. Dropping the call's own values ends it all the same.
public struct CallEnding: Sendable {
    let stream: ClientStream

    /// Returns when the call has ended, or the task is cancelled. For one task at a time.
    nonisolated(nonsending) public func wait() async {
        await stream.waitForEnd()
    }

    /// How it ended; nil: it goes on.
    public var status: GRPCStatus? { stream.status }

    /// Whether they are of one call.
    public func isSame(as other: CallEnding) -> Bool { stream === other.stream }
}

/// A call whose caller sends any number of messages.
public struct ClientCall<Request: ProtobufMessage, Response: ProtobufMessage>: Sendable {
    /// What the server sends.
    public let responses: ResponseStream<Response>

    init(_ lease: CallLease) {
        responses = ResponseStream(lease)
    }

    /// Sends one message; waits first while ``GRPCChannelOptions/queuedBytes`` are queued.
    /// Throws the call's status where the server has ended it.
    /// - Parameter compress: false sends it as it is in a compressed call.
    nonisolated(nonsending) public func send(
        _ message: Request, compress: Bool = true
    ) async throws(GRPCStatus) {
        let stream = responses.lease.stream
        let compression = compress ? stream.options.compression : .identity
        try await stream.send(MessageFrame.make(message, compression))
    }

    /// Tells when the call has ended, without keeping it.
    public var ending: CallEnding { CallEnding(stream: responses.lease.stream) }

    /// No more messages will be sent.
    public func halfClose() {
        responses.lease.stream.halfClose()
    }

    /// Half-closes, and waits for the only message of a client-streaming call's answer.
    nonisolated(nonsending) public func response() async throws(GRPCStatus) -> Response {
        halfClose()
        let answer: UnaryResponse<Response> = try await GRPCChannel.single(responses.lease.stream)
        return answer.message
    }

    /// Ends the call.
    public func cancel() {
        responses.cancel()
    }
}
