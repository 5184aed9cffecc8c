// The input of an interactive session, over as many calls as it takes. Knows offsets; not where
// the input comes from.

internal import GRPCWire
internal import ProcgateV1
import Synchronization

final class AttachInput: Sendable {
    private struct State {
        /// Nil while there is no call, and until what was lost with the last one is made up for.
        var sender: AttachSender?
        /// The call that is open, whether it may be written to or not.
        var call: AttachSender?
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
        /// Makes up for what was lost with the last call.
        var repeater: Task<Void, Never>?
        /// Why that could not be done.
        var failure: SandboxError?
        var nextTicket: UInt64 = 0
        /// For a sender; as many as there are tasks that write.
        var waiting: [(ticket: UInt64, continuation: CheckedContinuation<Void, Never>)] = []
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

    func detach() {
        let (sender, repeater, claimed) = state.withLock { state in
            state.isDetached = true
            state.sender = nil
            let claimed = state.hasClaimed ? state.processID : nil
            state.hasClaimed = false
            return (state.call.take(), state.repeater.take(), claimed)
        }
        sender?.call.cancel()
        repeater?.cancel()
        if let claimed { calls.unclaimStdin(of: claimed) }
        wakeWaiting()
    }

    // MARK: Calls

    /// A call has been made, the first or a further one. Its output is read at once: where the
    /// process waits for that, it takes no input before.
    func opened(_ sender: AttachSender, isFirst: Bool) {
        if isFirst { return use(sender) }
        let older = state.withLock { state in
            state.sender = nil
            state.call = sender
            state.failure = nil
            return state.repeater.take()
        }
        older?.cancel()
        let repeater = Task { await self.makeUp(through: sender) }
        let isDetached = state.withLock { state in
            if !state.isDetached { state.repeater = repeater }
            return state.isDetached
        }
        if isDetached {
            repeater.cancel()
            sender.call.cancel()
        }
    }

    /// Sends again what the last call may have lost, and only then lets others send.
    private func makeUp(through sender: AttachSender) async {
        try? await turn.take { () async throws(SandboxError) -> Void in
            do throws(SandboxError) {
                try await repeatInput()
            } catch {
                // A process that takes no more input is met again by the next write.
                if error.mayRetry && !Task.isCancelled { return fail(error) }
            }
            if let size = state.withLock({ $0.size }) {
                var request = AttachRequest()
                request.message = .resize(size)
                // A call that fails is the reader's to replace.
                try? await sender.send(request)
            }
            if !Task.isCancelled { use(sender) }
        }
    }

    private func use(_ sender: AttachSender) {
        let isDetached = state.withLock { state in
            state.sender = state.isDetached ? nil : sender
            state.call = state.sender
            return state.isDetached
        }
        if isDetached { sender.call.cancel() }
        wakeWaiting()
    }

    private func fail(_ error: SandboxError) {
        state.withLock { $0.failure = error }
        wakeWaiting()
    }

    /// What had been accepted is skipped: the write carries its offset.
    private func repeatInput() async throws(SandboxError) {
        let (id, request) = state.withLock { state in
            var request = WriteStdinRequest()
            request.position = .offset(state.offset &- UInt64(state.recent.count))
            request.data = state.recent
            request.eof = state.isStdinClosed
            return (state.processID, request)
        }
        guard let id, !request.data.isEmpty || request.eof else { return }
        var named = request
        named.processId = id
        _ = try await calls.unary(ProcessService.writeStdin, named, processID: id)
    }

    // MARK: Input

    func write(_ bytes: [UInt8]) async throws(SandboxError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let piece = Array(rest.prefix(AttachSession.inputWindowBytes / 4))
            rest = rest.dropFirst(piece.count)
            try await send(.stdinData(piece))
        }
    }

    /// Waits while there is no call; it is the reader that makes one.
    func send(_ message: AttachRequest.Message) async throws(SandboxError) {
        if message.isInput { try await claimStdin() }
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
        let (sender, isDetached, failure, id) = state.withLock { state in
            (state.sender, state.isDetached, state.failure, state.processID)
        }
        if isDetached {
            throw SandboxError(.closed, "the session was detached", processID: id)
        }
        if calls.isClosed {
            throw SandboxError(.closed, "the sandbox was closed", processID: id)
        }
        if let failure { throw failure }
        guard let sender else { return false }
        remember(message)
        var request = AttachRequest()
        request.message = message
        do throws(GRPCStatus) {
            try await sender.send(request)
        } catch {
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
                    guard state.sender == nil, state.failure == nil, !state.isDetached,
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
        if Task.isCancelled { throw SandboxError(.cancelled, "the task was cancelled") }
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
