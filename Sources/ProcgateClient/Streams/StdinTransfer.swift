// Writes a process's stdin, each byte once, over as many calls as it takes. Knows offsets; not
// where the bytes come from.

internal import GRPCWire
internal import ProcgateV1
import Synchronization

/// Keeps what the gateway has not confirmed, at most `windowBytes`, to send it again after a lost
/// connection: it carries its offset, so what had been accepted is skipped there. It does so at
/// once, without waiting for more input.
///
/// Unchecked because its state is confined to who has the `turn`: the writer, or between its
/// writes the task that watches the call.
final class StdinTransfer: @unchecked Sendable {
    /// The most of one message, and of the window. That is never more than `windowMessages`, so
    /// that it has few pieces where a gateway takes small messages alone.
    static let messageBytes = 256 << 10
    private static let windowBytes = 4 << 20
    private static let windowMessages = 256

    private let calls: GatewayCalls
    private let processID: String
    private let messageBytes: Int
    private let windowBytes: Int
    private let turn = Turn()
    /// Confirmed: where the window begins in all of stdin.
    private var offset: UInt64
    private var window: [ArraySlice<UInt8>] = []
    private var windowCount = 0
    private var sender: StdinSender?
    /// How many pieces of the window the call that is open has been given.
    private var sentPieces = 0
    /// Of what the watcher sends again.
    private var retry: RetryState
    /// Why that could not be done: told with the next write.
    private var failure: SandboxError?

    private let watcher = Mutex<Task<Void, Never>?>(nil)
    /// The call that was opened last.
    private let opened: AsyncStream<CallEnding>
    private let openedCalls: AsyncStream<CallEnding>.Continuation

    /// - Parameter offset: What the process has accepted so far.
    init(calls: GatewayCalls, processID: String, offset: UInt64) {
        self.calls = calls
        self.processID = processID
        self.offset = offset
        let messageBytes = calls.stdinBytes(atMost: Self.messageBytes)
        self.messageBytes = messageBytes
        windowBytes = min(Self.windowBytes, messageBytes * Self.windowMessages)
        retry = calls.newRetryState()
        (opened, openedCalls) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    // MARK: Writing

    /// Returns when the bytes are on their way: flow control holds it back to what is read.
    func send(_ bytes: [UInt8]) async throws(SandboxError) {
        startWatching()
        try await turn.take { () async throws(SandboxError) -> Void in
            if let failure { throw failure }
            try await enqueue(bytes)
        }
    }

    private func enqueue(_ bytes: [UInt8]) async throws(SandboxError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let piece = rest.prefix(messageBytes)
            rest = rest.dropFirst(piece.count)
            window.append(piece)
            windowCount += piece.count
            try await transmit(confirming: windowCount >= windowBytes)
        }
    }

    /// Writes all of the bytes: in one call, with their end, where one message holds them.
    func write(_ bytes: [UInt8], eof: Bool) async throws(SandboxError) -> UInt64 {
        try await turn.take { () async throws(SandboxError) -> UInt64 in
            if bytes.count <= messageBytes {
                window = bytes.isEmpty ? [] : [bytes[...]]
                windowCount = bytes.count
            } else {
                try await enqueue(bytes)
            }
            return try await confirm(eof: eof)
        }
    }

    /// Returns when the process has taken everything, and its stdin is closed where `eof` is set.
    func finish(eof: Bool) async throws(SandboxError) -> UInt64 {
        try await turn.take { () async throws(SandboxError) -> UInt64 in
            if let failure { throw failure }
            return try await confirm(eof: eof)
        }
    }

    private func confirm(eof: Bool) async throws(SandboxError) -> UInt64 {
        if eof || windowCount > 0 { try await transmit(confirming: true, eof: eof) }
        return offset
    }

    /// Nothing is written any more once this returns. Its writer may still be waiting for its input:
    /// what that yields later is refused.
    func close() async {
        let task = watcher.withLock { $0.take() }
        openedCalls.finish()
        task?.cancel()
        await task?.value
        try? await turn.take { () async throws(SandboxError) -> Void in
            failure = failure ?? .taskCancelled(processID)
            sender = nil
        }
    }

    // MARK: Watching

    /// The input may be silent for long: a call that is lost meanwhile is made anew at once.
    private func startWatching() {
        watcher.withLock { task in
            guard task == nil else { return }
            task = Task { [weak self, opened] in
                for await ending in opened {
                    await ending.wait()
                    if Task.isCancelled { return }
                    await self?.callEnded(ending)
                }
            }
        }
    }

    private func callEnded(_ ending: CallEnding) async {
        // What is said of the process is told with the next write.
        guard let status = ending.status, status.isPassing else { return }
        try? await turn.take { () async throws(SandboxError) -> Void in
            // Where it was the writer that ended it, or found it lost, nothing is left to do.
            guard let sender, sender.call.ending.isSame(as: ending), failure == nil else { return }
            self.sender = nil
            do throws(SandboxError) {
                try await calls.recover(&retry, from: status, processID: processID)
                try await transmit(confirming: false)
            } catch {
                if !Task.isCancelled { failure = error }
            }
        }
    }

    // MARK: Calls

    private func transmit(
        confirming: Bool, eof: Bool = false
    ) async throws(SandboxError) {
        var retry = calls.newRetryState()
        while true {
            do {
                try await attempt(confirming: confirming, eof: eof)
                return
            } catch {
                sender = nil
                if confirming, try await wasTaken(error) { return confirmed() }
                try await calls.recover(&retry, from: error, processID: processID)
            }
        }
    }

    private func attempt(confirming: Bool, eof: Bool) async throws(GRPCStatus) {
        let accepted: UInt64
        if confirming && sender == nil && window.count <= 1 {
            accepted = try await writeAtOnce(eof: eof)
        } else {
            let open = try await openSender()
            while sentPieces < window.count {
                var request = StreamStdinRequest()
                request.data = Array(window[sentPieces])
                try await open.send(request)
                sentPieces += 1
            }
            guard confirming else { return joinSent() }
            if eof {
                var last = StreamStdinRequest()
                last.eof = true
                try await open.send(last)
            }
            accepted = try await open.finish().stdinBytes
        }
        guard accepted >= windowEnd else {
            throw .transport(.unavailable, "the gateway confirmed less than was written")
        }
        sender = nil
        confirmed()
    }

    /// What is small enough needs no stream, and its end comes with it.
    private func writeAtOnce(eof: Bool) async throws(GRPCStatus) -> UInt64 {
        var request = WriteStdinRequest()
        request.processId = processID
        request.position = .offset(offset)
        request.data = window.first.map { Array($0) } ?? []
        request.eof = eof
        return try await calls.attempt(
            ProcessService.writeStdin, request, processID: processID
        ).stdinBytes
    }

    private func openSender() async throws(GRPCStatus) -> StdinSender {
        if let sender { return sender }
        let open = calls.streamStdin(of: processID)
        sender = open
        sentPieces = 0
        openedCalls.yield(open.call.ending)
        var first = StreamStdinRequest()
        first.processId = processID
        first.position = .offset(offset)
        try await open.send(first)
        return open
    }

    // MARK: The window

    /// Where the window ends in all of stdin. It wraps: the gateway says where it begins.
    private var windowEnd: UInt64 { offset &+ UInt64(windowCount) }

    /// Puts small pieces together once they are sent, so that two neighbours always hold more
    /// than one message: the window's pieces are few, however small they come.
    private func joinSent() {
        guard window.count > 1, sentPieces == window.count else { return }
        let last = window[window.count - 1]
        guard window[window.count - 2].count + last.count <= messageBytes else { return }
        window.removeLast()
        window[window.count - 1].append(contentsOf: last)
        sentPieces -= 1
    }

    private func confirmed() {
        offset = windowEnd
        window.removeAll(keepingCapacity: true)
        windowCount = 0
        sentPieces = 0
    }

    /// A process that took every byte and then ended, or whose stdin is closed, before it was
    /// told of the end, or before a repeat: there is nothing left to do.
    private func wasTaken(_ status: GRPCStatus) async throws(SandboxError) -> Bool {
        let failure = calls.error(status, processID: processID)
        guard [.stdinClosed, .processNotRunning].contains(failure.reason) else { return false }
        return try await calls.process(processID).stdinBytes >= windowEnd
    }
}
