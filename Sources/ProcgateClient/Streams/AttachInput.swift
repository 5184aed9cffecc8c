// The input of an interactive session, over as many calls as it takes. Knows offsets; not where
// the input comes from.

internal import GRPCWire
internal import ProcgateV1
import Synchronization

final class AttachInput: Sendable {
    private struct State {
        /// Nil while there is no call, and until what was lost with the last one is made up for.
        var sender: AttachSender?
        /// The call by which input went last: of a lost one some may be on its way still.
        var session: String?
        /// Input goes by calls of its own: the one that is open brings output alone.
        var isAside = false
        var hasTerminal = false
        /// Ends the call that is open, whether there may be input or not.
        var end: (@Sendable () -> Void)?
        var processID: String?
        /// Stdin is this session's: see `GatewayCalls.claimStdin`.
        var hasClaimed = false
        /// In all of the process's stdin, behind what was written here; exact where nobody else
        /// writes.
        var offset: UInt64
        /// What was written last, at most `inputWindowBytes`.
        var recent: [UInt8] = []
        var isStdinClosed = false
        var size: ProcgateV1.TerminalSize?
        var isDetached = false
        /// As the process has, so that nobody takes input any more.
        var hasEnded = false
        /// Makes up for what was lost with the last call.
        var repeater: Task<Void, Never>?
        /// Why that could not be done.
        var failure: SandboxError?
        var nextTicket: UInt64 = 0
        /// For a sender; as many as there are tasks that write.
        var waiting: [(ticket: UInt64, continuation: CheckedContinuation<Void, Never>)] = []

        /// Whether there may be input, though it be dropped.
        var isReady: Bool { sender != nil || isAside || hasEnded }
    }

    private let calls: GatewayCalls
    private let state: Mutex<State>
    private let turn = Turn()
    private let claimTurn = Turn()

    init(calls: GatewayCalls, offset: UInt64) {
        self.calls = calls
        state = Mutex(State(offset: offset))
    }

    func joined(_ processID: String) {
        state.withLock { $0.processID = processID }
    }

    /// The process has ended, and the call with it: input is dropped from now on.
    func ended() {
        state.withLock { state in
            state.hasEnded = true
            state.sender = nil
        }
        wakeWaiting()
    }

    func detach() {
        let (end, repeater, claimed) = state.withLock { state in
            state.isDetached = true
            state.sender = nil
            state.isAside = false
            let claimed = state.hasClaimed ? state.processID : nil
            state.hasClaimed = false
            return (state.end.take(), state.repeater.take(), claimed)
        }
        end?()
        repeater?.cancel()
        if let claimed { calls.unclaimStdin(of: claimed) }
        wakeWaiting()
    }

    // MARK: Calls

    /// A call has been made, the first or a further one. Its output is read at once: where the
    /// process waits for that, it takes no input before.
    func opened(_ sender: AttachSender, isFirst: Bool) {
        let end: @Sendable () -> Void = { sender.call.cancel() }
        if isFirst {
            state.withLock { $0.end = end }
            return use(sender)
        }
        opened(end) { await self.makeUp(through: sender) }
    }

    /// The output comes by a call that takes no input: from now on that goes by calls of its own.
    func openedAside(_ output: ResponseStream<ProcessEvent>, hasTerminal: Bool) {
        state.withLock { $0.hasTerminal = hasTerminal }
        let end: @Sendable () -> Void = { output.cancel() }
        opened(end) { await self.makeUp(through: nil) }
    }

    private func opened(
        _ end: @escaping @Sendable () -> Void, makingUp: @escaping @Sendable () async -> Void
    ) {
        let older = state.withLock { state in
            state.sender = nil
            state.isAside = false
            state.end = end
            state.failure = nil
            state.hasEnded = false
            return state.repeater.take()
        }
        older?.cancel()
        let repeater = Task { await makingUp() }
        let isDetached = state.withLock { state in
            if !state.isDetached { state.repeater = repeater }
            return state.isDetached
        }
        if isDetached {
            repeater.cancel()
            end()
        }
    }

    /// Sends again what the last call may have lost, and only then lets others send.
    private func makeUp(through sender: AttachSender?) async {
        try? await turn.take { () async throws(SandboxError) -> Void in
            do throws(SandboxError) {
                try await repeatInput()
            } catch {
                // A process that takes no more input is met again by the next write.
                if error.mayRetry && !Task.isCancelled { return fail(error) }
            }
            if let size = state.withLock({ $0.size }) {
                // A call that fails is the reader's to replace.
                if let sender {
                    var request = AttachRequest()
                    request.message = .resize(size)
                    try? await sender.send(request)
                } else {
                    try? await resizeAside(size)
                }
            }
            if !Task.isCancelled { use(sender) }
        }
    }

    /// - Parameter sender: Nil where input goes by calls of its own.
    private func use(_ sender: AttachSender?) {
        let end = state.withLock { state -> (@Sendable () -> Void)? in
            guard !state.isDetached else { return state.end.take() }
            state.sender = sender
            state.isAside = sender == nil
            state.session = sender?.session
            return nil
        }
        end?()
        wakeWaiting()
    }

    private func fail(_ error: SandboxError) {
        state.withLock { $0.failure = error }
        wakeWaiting()
    }

    /// What had been accepted is skipped: the writes carry their offsets.
    private func repeatInput() async throws(SandboxError) {
        let (id, end, recent, isClosed, session) = state.withLock { state in
            (
                state.processID, state.offset, state.recent, state.isStdinClosed, state.session
            )
        }
        guard let id, !recent.isEmpty || isClosed else { return }
        let most = calls.stdinBytes(atMost: AttachSession.inputWindowBytes)
        var rest = recent[...]
        repeat {
            var request = WriteStdinRequest()
            request.processId = id
            request.position = .offset(end &- UInt64(rest.count))
            request.data = Array(rest.prefix(most))
            rest = rest.dropFirst(most)
            request.eof = isClosed && rest.isEmpty
            _ = try await calls.unary(
                ProcessService.writeStdin, request, processID: id, after: session)
        } while !rest.isEmpty
    }

    // MARK: Input

    func write(_ bytes: [UInt8]) async throws(SandboxError) {
        let most = calls.stdinBytes(atMost: AttachSession.inputWindowBytes / 4)
        var rest = bytes[...]
        while !rest.isEmpty {
            let piece = Array(rest.prefix(most))
            rest = rest.dropFirst(piece.count)
            try await send(.stdinData(piece))
        }
    }

    /// Between two questions after the input.
    private static let firstInterval = Duration.milliseconds(5)
    private static let longestInterval = Duration.milliseconds(100)

    /// Nobody tells when input is taken: the process is asked, until it has as much as was written.
    func flush() async throws(SandboxError) {
        var interval = Self.firstInterval
        while true {
            let (id, offset, isOwn) = state.withLock { state in
                (state.processID, state.offset, state.hasClaimed)
            }
            guard let id, isOwn else { return }
            let process = try await calls.process(id)
            guard process.endedAt == 0, process.stdinBytes < offset else { return }
            // Where that is cut short, the next question says why.
            await pause(for: interval, until: [calls.closing])
            interval = min(interval * 2, Self.longestInterval)
        }
    }

    /// Waits while there is no call; it is the reader that makes one.
    func send(_ message: AttachRequest.Message) async throws(SandboxError) {
        if message.isInput { try await claimStdin() }
        // By itself, it need not wait for input that the process does not read.
        if !message.isInput, state.withLock({ $0.isAside }) { return try await giveAside(message) }
        while true {
            let isGiven = try await turn.take { () async throws(SandboxError) -> Bool in
                try await give(message)
            }
            if isGiven { return }
            try await waitForSender()
        }
    }

    /// False while there is no call. Where one fails under it, what can be made up for is left to
    /// the next one.
    private func give(_ message: AttachRequest.Message) async throws(SandboxError) -> Bool {
        let (sender, isAside, isDetached, hasEnded, failure, id) = state.withLock { state in
            (
                state.sender, state.isAside, state.isDetached, state.hasEnded, state.failure,
                state.processID
            )
        }
        if isDetached {
            throw SandboxError(.closed, "the session was detached", processID: id)
        }
        if calls.isClosed {
            throw SandboxError(.closed, "the sandbox was closed", processID: id)
        }
        if let failure { throw failure }
        if hasEnded { return true }
        if isAside {
            try await giveAside(message)
            return true
        }
        guard let sender else { return false }
        remember(message)
        var request = AttachRequest()
        request.message = message
        do throws(GRPCStatus) {
            try await sender.send(request)
        } catch {
            // Its exit follows.
            if error == .endedByServer {
                ended()
                return true
            }
            state.withLock { $0.sender = nil }
            guard error.isPassing else { throw calls.error(error, processID: id) }
            if case .signal = message { throw calls.error(error, processID: id) }
        }
        return true
    }

    /// Before the first input: handles may have written until now, and may no more. Waits for
    /// those that do.
    private func claimStdin() async throws(SandboxError) {
        try await claimTurn.take { () async throws(SandboxError) -> Void in
            let id = state.withLock { $0.hasClaimed || $0.isDetached ? nil : $0.processID }
            guard let id else { return }
            try await calls.claimStdin(of: id)
            let offset: UInt64
            do throws(SandboxError) {
                offset = try await calls.process(id).stdinBytes
            } catch {
                calls.unclaimStdin(of: id)
                throw error
            }
            let isWanted = state.withLock { state in
                guard !state.isDetached else { return false }
                state.hasClaimed = true
                state.offset = offset
                return true
            }
            guard !isWanted else { return }
            calls.unclaimStdin(of: id)
            throw SandboxError(.closed, "the session was detached", processID: id)
        }
    }

    /// By a call of its own. Meets an ended process as the session's call would: its exit follows.
    private func giveAside(_ message: AttachRequest.Message) async throws(SandboxError) {
        let (id, offset, hasTerminal, isClosed) = state.withLock { state in
            (state.processID ?? "", state.offset, state.hasTerminal, state.isStdinClosed)
        }
        if case .eof = message, hasTerminal {
            throw SandboxError(
                .failedPrecondition, "a terminal has no end of input: write \"\\u{4}\"",
                processID: id)
        }
        remember(message)
        do throws(SandboxError) {
            switch message {
            case .stdinData(let piece):
                try await writeAside(id, piece, eof: false, at: offset)
            case .eof: try await writeAside(id, [], eof: true, at: offset)
            case .resize(let size): try await resizeAside(size)
            case .signal(let name):
                var request = SignalRequest()
                request.processId = id
                request.signal = name
                _ = try await calls.unary(
                    ProcessService.signal, request, repeat: .onlyWhereUnseen, processID: id)
            case .start, .join: break
            }
        } catch {
            let isBehindItsEnd = isClosed && message != .eof(true)
            switch error.reason {
            case .processNotRunning: return
            case .stdinClosed where !isBehindItsEnd: return
            default: throw error
            }
        }
    }

    private func writeAside(
        _ id: String, _ bytes: [UInt8], eof: Bool, at offset: UInt64
    ) async throws(SandboxError) {
        var request = WriteStdinRequest()
        request.processId = id
        request.position = .offset(offset)
        request.data = bytes
        request.eof = eof
        _ = try await calls.unary(ProcessService.writeStdin, request, processID: id)
    }

    private func resizeAside(_ size: ProcgateV1.TerminalSize) async throws(SandboxError) {
        var request = ResizeTerminalRequest()
        request.processId = state.withLock { $0.processID } ?? ""
        request.size = size
        _ = try await calls.unary(
            ProcessService.resizeTerminal, request, processID: request.processId)
    }

    private func remember(_ message: AttachRequest.Message) {
        state.withLock { state in
            switch message {
            case .stdinData(let piece):
                state.offset &+= UInt64(piece.count)
                state.recent += piece
                state.recent.removeFirst(
                    max(0, state.recent.count - AttachSession.inputWindowBytes))
            case .eof: state.isStdinClosed = true
            case .resize(let size): state.size = size
            default: break
            }
        }
    }

    private func waitForSender() async throws(SandboxError) {
        let alarm = calls.closing.add { [weak self] in self?.wakeWaiting() }
        defer { calls.closing.remove(alarm) }
        let ticket = state.withLock { state in
            state.nextTicket += 1
            return state.nextTicket
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
                let mustWait = state.withLock { state in
                    guard !state.isReady, state.failure == nil, !state.isDetached,
                        !Task.isCancelled, !calls.isClosed
                    else { return false }
                    state.waiting.append((ticket, continuation))
                    return true
                }
                if !mustWait { continuation.resume() }
            }
        } onCancel: {
            let waiter = state.withLock { state -> CheckedContinuation<Void, Never>? in
                guard let index = state.waiting.firstIndex(where: { $0.ticket == ticket }) else {
                    return nil
                }
                return state.waiting.remove(at: index).continuation
            }
            waiter?.resume()
        }
        if Task.isCancelled { throw .taskCancelled() }
    }

    private func wakeWaiting() {
        let waiting = state.withLock { state in
            defer { state.waiting = [] }
            return state.waiting
        }
        for waiter in waiting { waiter.continuation.resume() }
    }
}

extension AttachRequest.Message {
    /// Whether it goes to the process's stdin.
    fileprivate var isInput: Bool {
        switch self {
        case .stdinData, .eof: true
        default: false
        }
    }
}
