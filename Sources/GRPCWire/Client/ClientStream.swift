// One call of a client, in bytes: the side that runs on the channel's event loop, and the side
// that any task uses, with a lock between them. Knows no message type.

import DequeModule
import HTTP2
import NIOCore
import Synchronization

/// A call in progress.
///
/// `@unchecked Sendable`: what is below "On the loop" is confined to the channel's event loop,
/// `shared` has its lock, the rest never changes.
final class ClientStream: @unchecked Sendable {
    /// What a waiting task waits for.
    private struct Shared {
        var messages = Deque<MessageReader.Message>()
        var lastWasCompressed = false
        var bufferedBytes = 0
        var isHeld = false
        var head: Metadata?
        var status: GRPCStatus?
        var receiver: UnsafeContinuation<Void, Never>?
        var sender: UnsafeContinuation<Void, Never>?
        /// Waits for nothing but the end.
        var watcher: UnsafeContinuation<Void, Never>?
        var outgoing: [Outgoing] = []
        var outgoingBytes = 0
        var isSendScheduled = false
        var hasHalfClosed = false
    }

    enum Outgoing {
        case message(ByteBuffer)
        case halfClose
    }

    let path: String
    let options: CallOptions
    let deadline: NIODeadline?
    /// A call whose answer is one message wakes its task once, at the end.
    let wantsWhole: Bool
    private let core: ChannelCore
    private let shared = Mutex(Shared())

    // On the loop.
    var deadlineIndex = -1
    /// Times that the call was begun on a connection.
    private(set) var attempts = 0
    private var stream: HTTP2Stream?
    private var connection: ClientConnection?
    private var reader: MessageReader
    private var isEnded = false
    private var endStatus: GRPCStatus?
    /// The server has ended its side: `endStatus` is the last it had to say.
    private var isEndReceived = false
    private var hasAnswer = false
    private var messagesTaken = 0
    private var acceptsCompressed = false
    /// What was sent, while the call may have to be begun anew; nil: too much, or answered.
    private var replay: [ByteBuffer]? = []
    private var replayBytes = 0
    private var replayEnded = false

    private static let replayLimitBytes = 256 * 1024

    init(path: String, options: CallOptions, wantsWhole: Bool, core: ChannelCore) {
        self.path = path
        self.options = options
        self.wantsWhole = wantsWhole
        self.core = core
        deadline = options.timeout.map { .now() + $0.timeAmount }
        reader = MessageReader(
            limitBytes: options.maxMessageBytes ?? core.options.maxMessageBytes)
    }

    // MARK: Any task

    /// Begins the call, with a first message where it has only one.
    func begin(only message: ByteBuffer? = nil) {
        if let message {
            shared.withLock { shared in
                shared.outgoing = [.message(message), .halfClose]
                shared.hasHalfClosed = true
            }
        }
        core.eventLoop.execute { self.core.start(self) }
    }

    /// Queues a message with its prefix; waits first while too much is queued.
    nonisolated(nonsending) func send(_ message: ByteBuffer) async throws(GRPCStatus) {
        while true {
            let mustWait = try shared.withLock { shared throws(GRPCStatus) in
                if let status = shared.status { throw Self.sendFailure(status) }
                if shared.hasHalfClosed {
                    throw GRPCStatus(.internal, "a message after the half-close")
                }
                return shared.outgoingBytes >= core.options.queuedBytes
            }
            guard mustWait else { break }
            await waitToSend()
            if Task.isCancelled { throw GRPCStatus.taskCancelled }
        }
        enqueue(.message(message), message.readableBytes)
    }

    func halfClose() {
        let isFirst = shared.withLock { shared in
            defer { shared.hasHalfClosed = true }
            return !shared.hasHalfClosed
        }
        if isFirst { enqueue(.halfClose, 0) }
    }

    private static func sendFailure(_ status: GRPCStatus) -> GRPCStatus {
        status.code == .ok ? .endedByServer : status
    }

    private func enqueue(_ item: Outgoing, _ count: Int) {
        let schedule = shared.withLock { shared in
            shared.outgoing.append(item)
            shared.outgoingBytes += count
            defer { shared.isSendScheduled = true }
            return !shared.isSendScheduled
        }
        if schedule { core.eventLoop.execute { self.flushOutgoing() } }
    }

    nonisolated(nonsending) private func waitToSend() async {
        await withTaskCancellationHandler {
            await withUnsafeContinuation { continuation in
                let resume = shared.withLock { shared in
                    if shared.status != nil || shared.outgoingBytes < core.options.queuedBytes
                        || Task.isCancelled
                    {
                        return true
                    }
                    precondition(shared.sender == nil, "two tasks send to one call")
                    shared.sender = continuation
                    return false
                }
                if resume { continuation.resume() }
            }
        } onCancel: {
            cancel()
        }
    }

    /// The next message; nil: the call ended with status OK.
    nonisolated(nonsending) func receive() async throws(GRPCStatus) -> ByteBuffer? {
        while true {
            var resumeLoop = false
            let taken = shared.withLock { shared -> ByteBuffer? in
                guard let message = shared.messages.popFirst() else { return nil }
                shared.bufferedBytes -= Self.cost(message.bytes)
                shared.lastWasCompressed = message.isCompressed
                if shared.isHeld, shared.bufferedBytes < core.options.bufferedBytes / 2 {
                    shared.isHeld = false
                    resumeLoop = true
                }
                return message.bytes
            }
            if resumeLoop { core.eventLoop.execute { self.pump() } }
            if let taken { return taken }
            if let status = shared.withLock({ $0.status }) {
                if status.code == .ok { return nil }
                throw status
            }
            await wait { $0.messages.isEmpty && $0.status == nil }
        }
    }

    /// The answer's metadata, once it is there.
    nonisolated(nonsending) func initialMetadata() async throws(GRPCStatus) -> Metadata {
        while true {
            let (head, status) = shared.withLock { ($0.head, $0.status) }
            if let head { return head }
            if let status {
                if status.code == .ok { return Metadata() }
                throw status
            }
            await wait { $0.head == nil && $0.status == nil }
        }
    }

    /// Whether the message that ``receive()`` returned last came compressed.
    var lastMessageWasCompressed: Bool { shared.withLock { $0.lastWasCompressed } }

    /// The status, where the call has ended.
    var status: GRPCStatus? { shared.withLock { $0.status } }

    nonisolated(nonsending) private func wait(while condition: (borrowing Shared) -> Bool) async {
        await withTaskCancellationHandler {
            await withUnsafeContinuation { continuation in
                let resume = shared.withLock { shared in
                    guard condition(shared) else { return true }
                    precondition(shared.receiver == nil, "two tasks read one call")
                    shared.receiver = continuation
                    return false
                }
                if resume { continuation.resume() }
            }
        } onCancel: {
            cancel()
        }
    }

    /// Returns when the call has ended, or the task is cancelled: that does not end the call.
    nonisolated(nonsending) func waitForEnd() async {
        await withTaskCancellationHandler {
            await withUnsafeContinuation { continuation in
                let resume = shared.withLock { shared in
                    if shared.status != nil || Task.isCancelled { return true }
                    precondition(shared.watcher == nil, "two tasks watch one call")
                    shared.watcher = continuation
                    return false
                }
                if resume { continuation.resume() }
            }
        } onCancel: {
            let watcher = shared.withLock { shared -> UnsafeContinuation<Void, Never>? in
                defer { shared.watcher = nil }
                return shared.watcher
            }
            watcher?.resume()
        }
    }

    /// Ends the call at once, from any thread.
    func cancel() {
        settle(GRPCStatus(.cancelled, "the call was cancelled"))
    }

    /// Settles the status, from any thread, and lets go of the stream. Nothing happens the
    /// second time.
    /// - Parameter keepsMessages: messages that are here already are still read before it.
    func settle(_ status: GRPCStatus, keepsMessages: Bool = false) {
        guard publish(status, keepsMessages: keepsMessages) else { return }
        if core.eventLoop.inEventLoop {
            abandon()
        } else {
            core.eventLoop.execute { self.abandon() }
        }
    }

    private func publish(_ status: GRPCStatus, keepsMessages: Bool) -> Bool {
        let waiting = shared.withLock { shared -> (Bool, [UnsafeContinuation<Void, Never>?]) in
            guard shared.status == nil else { return (false, []) }
            shared.status = status
            if !keepsMessages {
                shared.messages.removeAll()
                shared.bufferedBytes = 0
            }
            shared.outgoing = []
            defer {
                shared.receiver = nil
                shared.sender = nil
                shared.watcher = nil
            }
            return (true, [shared.receiver, shared.sender, shared.watcher])
        }
        for continuation in waiting.1 { continuation?.resume() }
        return waiting.0
    }

    // MARK: On the loop

    var isSettled: Bool { status != nil }

    /// Ends what is left of a call whose status is settled.
    private func abandon() {
        isEnded = true
        core.forget(self)
        if let stream {
            if !stream.isClosed { stream.reset(.cancel) }
            detach()
        }
    }

    private func detach() {
        stream?.context = nil
        stream = nil
        let from = connection
        connection = nil
        from?.callEnded()
    }

    /// Sends the request on `connection`. False: it takes no stream.
    func open(on connection: ClientConnection, _ session: HTTP2Session) -> Bool {
        let headers = core.requestHeaders(self)
        guard let stream = session.request(headers, context: self) else { return false }
        attempts += 1
        self.stream = stream
        self.connection = connection
        if let sent = replay {
            for message in sent { stream.enqueue(message) }
            if replayEnded { stream.end(trailers: nil) }
        }
        flushOutgoing()
        // A sender may wait for the room of the stream before this one.
        noteRoom()
        return true
    }

    private func flushOutgoing() {
        guard let stream else {
            // Not open yet: `open` comes back here.
            shared.withLock { $0.isSendScheduled = false }
            return
        }
        let items = shared.withLock { shared in
            shared.isSendScheduled = false
            defer { shared.outgoing = [] }
            return shared.outgoing
        }
        for item in items {
            switch item {
            case .message(let message):
                remember(message)
                stream.enqueue(message)
            case .halfClose:
                replayEnded = true
                stream.end(trailers: nil)
            }
        }
        if !items.isEmpty { noteRoom() }
    }

    private func remember(_ message: ByteBuffer) {
        guard replay != nil else { return }
        replayBytes += message.readableBytes
        // A single message is kept however large: it is the call's own.
        if replayBytes > Self.replayLimitBytes, replay?.isEmpty == false {
            replay = nil
        } else {
            replay?.append(message)
        }
    }

    /// Tells a waiting sender when there is room again.
    func noteRoom() {
        guard let stream else { return }
        let queued = stream.queuedBytes
        let sender = shared.withLock { shared -> UnsafeContinuation<Void, Never>? in
            var waiting = 0
            for case .message(let message) in shared.outgoing { waiting += message.readableBytes }
            shared.outgoingBytes = queued + waiting
            guard shared.outgoingBytes < core.options.queuedBytes else { return nil }
            defer { shared.sender = nil }
            return shared.sender
        }
        if queued > 0 { stream.wantsDrained = true }
        sender?.resume()
    }

    func headersReceived(_ block: HeaderBlock) {
        guard !isEnded else { return }
        let head = AnswerHead.of(block)
        switch head.meaning {
        case .status(let status):
            endStatus = status
            return
        case .failure(let status):
            settle(status)
            return
        case .answer(let isCompressed):
            acceptsCompressed = isCompressed
        }
        hasAnswer = true
        replay = nil
        let receiver = shared.withLock { shared -> UnsafeContinuation<Void, Never>? in
            shared.head = head.metadata
            guard !wantsWhole else { return nil }
            defer { shared.receiver = nil }
            return shared.receiver
        }
        receiver?.resume()
    }

    func dataReceived(_ bytes: ByteBuffer) {
        guard !isEnded else {
            stream?.consume(bytes.readableBytes)
            return
        }
        reader.append(bytes)
        pump()
    }

    func trailersReceived(_ block: HeaderBlock) {
        endStatus = AnswerEnd.of(block).status
    }

    func endReceived() {
        guard !isEnded else { return }
        isEndReceived = true
        if endStatus == nil {
            endStatus = .transport(.internal, "the answer ends without trailers")
        }
        pump()
    }

    /// Moves complete messages to their reader, as many as may be buffered, and after the last
    /// one the status.
    private func pump() {
        guard !isEnded else { return }
        var batch: [MessageReader.Message] = []
        var room = core.options.bufferedBytes - shared.withLock { $0.bufferedBytes }
        var failure: GRPCStatus?
        do throws(GRPCStatus) {
            while room > 0 || wantsWhole {
                guard case .message(let message) = try reader.next() else { break }
                messagesTaken += 1
                guard messagesTaken == 1 || !wantsWhole else {
                    throw GRPCStatus(.internal, "the server answered with more than one message")
                }
                let bytes = try plain(message)
                batch.append(
                    MessageReader.Message(isCompressed: message.isCompressed, bytes: bytes))
                room -= Self.cost(bytes)
            }
        } catch {
            failure = error
        }
        let isHeld = room <= 0 && !wantsWhole
        stream?.consume(reader.credit(isWaiting: !isHeld))
        var last: GRPCStatus?
        if failure == nil, isEndReceived, let endStatus, !isHeld {
            last =
                reader.isEmpty || endStatus.code != .ok
                ? endStatus : GRPCStatus(.internal, "the answer ends within a message")
        }
        deliver(batch, isHeld: isHeld)
        if let failure {
            settle(failure)
        } else if let last {
            complete(last)
        }
    }

    /// What a waiting message counts: its bytes, and at the least what an empty one takes.
    private static func cost(_ message: ByteBuffer) -> Int { max(message.readableBytes, 64) }

    private func plain(_ message: MessageReader.Message) throws(GRPCStatus) -> ByteBuffer {
        guard message.isCompressed else { return message.bytes }
        guard acceptsCompressed else {
            throw GRPCStatus(.internal, "a compressed message without grpc-encoding")
        }
        return try Gzip.inflate(message.bytes, limitBytes: reader.limitBytes)
    }

    private func deliver(_ batch: [MessageReader.Message], isHeld: Bool) {
        guard !batch.isEmpty || isHeld else { return }
        let receiver = shared.withLock { shared -> UnsafeContinuation<Void, Never>? in
            guard shared.status == nil else { return nil }
            for message in batch {
                shared.messages.append(message)
                shared.bufferedBytes += Self.cost(message.bytes)
            }
            shared.isHeld = isHeld
            guard !wantsWhole, !batch.isEmpty else { return nil }
            defer { shared.receiver = nil }
            return shared.receiver
        }
        receiver?.resume()
    }

    /// The server has said how the call ended.
    private func complete(_ status: GRPCStatus) {
        isEnded = true
        core.forget(self)
        if let stream, !stream.isClosed { stream.reset(.cancel) }
        detach()
        _ = publish(status, keepsMessages: true)
    }

    /// The stream is over, with the peer's code, or nil where its connection was lost.
    func streamClosed(_ code: HTTP2ErrorCode?) {
        guard !isEnded else { return }
        if isEndReceived {
            // All is here; the reader has not taken it yet.
            let from = connection
            connection = nil
            from?.callEnded()
            return
        }
        detach()
        let status = code.map(TransportStatus.reset) ?? TransportStatus.connectionLost
        if status.notProcessed, !hasAnswer, replay != nil, attempts < 3 {
            endStatus = nil
            core.start(self)
            return
        }
        settle(status, keepsMessages: true)
    }
}

extension ClientStream: DeadlineHolder {
    func deadlineReached() {
        settle(GRPCStatus(.deadlineExceeded, "the deadline passed"))
    }
}
