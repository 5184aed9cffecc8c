// The input of an interactive session, over as many calls as it takes. Knows offsets; not where
// the input comes from.

internal import GRPCWire
internal import ProcgateV1
import Synchronization

final class AttachInput: Sendable {
    private struct State {
        var sender: AttachSender?
        var processID: String?
        /// In all of the process's stdin, behind what was written here; exact where nobody else
        /// writes.
        var offset: UInt64
        /// What was written last, at most `inputWindowBytes`.
        var recent: [UInt8] = []
        var size: ProcgateV1.TerminalSize?
        var isDetached = false
    }

    private let calls: GatewayCalls
    private let state: Mutex<State>
    private let turn = Turn()

    init(calls: GatewayCalls, offset: UInt64) {
        self.calls = calls
        state = Mutex(State(offset: offset))
    }

    func joined(_ processID: String) {
        state.withLock { $0.processID = processID }
    }

    func detach() {
        let sender = state.withLock { state in
            state.isDetached = true
            return state.sender.take()
        }
        sender?.call.cancel()
    }

    /// A call has been made, the first or a further one.
    func opened(_ sender: AttachSender, isFirst: Bool) async throws(GRPCStatus) {
        if !isFirst {
            // An error of the caller's own doing is met again by the next write.
            try? await turn.take { () async throws(SandboxError) in
                try await repeatInput()
                use(sender)
            }
            if let size = state.withLock({ $0.size }) {
                var request = AttachRequest()
                request.message = .resize(size)
                try await sender.send(request)
            }
        }
        use(sender)
    }

    private func use(_ sender: AttachSender) {
        let isDetached = state.withLock { state in
            state.sender = state.isDetached ? nil : sender
            return state.isDetached
        }
        if isDetached { sender.call.cancel() }
    }

    /// What had been accepted is skipped: the write carries its offset.
    private func repeatInput() async throws(SandboxError) {
        let (id, offset, recent) = state.withLock { state in
            (state.processID, state.offset - UInt64(state.recent.count), state.recent)
        }
        guard let id, !recent.isEmpty else { return }
        var request = WriteStdinRequest()
        request.processId = id
        request.position = .offset(offset)
        request.data = recent
        _ = try await calls.unary(ProcessService.writeStdin, request, processID: id)
    }

    func write(_ bytes: [UInt8]) async throws(SandboxError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let piece = Array(rest.prefix(AttachSession.inputWindowBytes / 4))
            rest = rest.dropFirst(piece.count)
            try await turn.take { () async throws(SandboxError) in
                state.withLock { state in
                    state.offset += UInt64(piece.count)
                    state.recent += piece
                    state.recent.removeFirst(
                        max(0, state.recent.count - AttachSession.inputWindowBytes))
                }
                try await give(.stdinData(piece))
            }
        }
    }

    func send(_ message: AttachRequest.Message) async throws(SandboxError) {
        if case .resize(let size) = message { state.withLock { $0.size = size } }
        try await turn.take { () async throws(SandboxError) in try await give(message) }
    }

    /// While there is no call, what can be made up for is left to ``opened(_:isFirst:)``; a
    /// failing call is the reader's to replace.
    private func give(_ message: AttachRequest.Message) async throws(SandboxError) {
        let (sender, isDetached, id) = state.withLock { state in
            (state.sender, state.isDetached, state.processID)
        }
        if isDetached {
            throw SandboxError(.closed, "the session was detached", processID: id)
        }
        var request = AttachRequest()
        request.message = message
        do throws(GRPCStatus) {
            guard let sender else {
                throw GRPCStatus.transport(.unavailable, "reconnecting", notProcessed: true)
            }
            try await sender.send(request)
        } catch {
            state.withLock { $0.sender = nil }
            guard error.isPassing else { throw calls.error(error, processID: id) }
            switch message {
            case .stdinData, .resize: return
            default: throw calls.error(error, processID: id)
            }
        }
    }
}
