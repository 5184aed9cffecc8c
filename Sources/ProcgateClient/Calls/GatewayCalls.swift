// Calls of one gateway over one channel, repeated where that is safe. Knows which failures pass
// and when to try again; not what the calls mean.

internal import GRPCWire
internal import ProcgateV1
internal import Protobuf
import Synchronization

/// Shared by a sandbox and everything it hands out.
final class GatewayCalls: Sendable {
    /// What a repeat of a call does.
    enum Repeat {
        /// The same once more, without harm.
        case harmless
        /// Possibly the same twice: only where no handler saw the first.
        case onlyWhereUnseen
    }

    private struct State {
        var budget = RetryBudget()
        var isClosed = false
        /// Of the supervisor, as far as it is known.
        var instanceID = ""
        /// Of the processes whose stdin is being written; as many as there are writers.
        var stdinTurns: [String: (turn: Turn, users: Int)] = [:]
    }

    let channel: GRPCChannel
    private let token: String?
    private let patience: Duration
    private let start = ContinuousClock.now
    private let state = Mutex(State())

    init(channel: GRPCChannel, token: String?, patience: Duration) {
        self.channel = channel
        self.token = token
        self.patience = patience
    }

    var options: CallOptions {
        var options = CallOptions()
        if let token { options.metadata.append("authorization", "Bearer \(token)") }
        return options
    }

    var instanceID: String {
        get { state.withLock { $0.instanceID } }
        set { state.withLock { $0.instanceID = newValue } }
    }

    func newRetryState() -> RetryState { RetryState(patience: patience) }

    /// The first call: is the gateway there, and does it take the caller's token?
    func greet(for patience: Duration) async throws(SandboxError) {
        var retry = RetryState(patience: patience)
        while true {
            do {
                let answer = try await attempt(ProcessService.getGateway, GetGatewayRequest())
                instanceID = answer.instanceId
                return
            } catch {
                try await recover(&retry, from: error)
            }
        }
    }

    // MARK: Calls

    func unary<Request, Response>(
        _ method: MethodDescriptor<Request, Response>, _ request: Request,
        repeat: Repeat = .harmless, processID: String? = nil
    ) async throws(SandboxError) -> Response {
        var retry = newRetryState()
        while true {
            do {
                return try await attempt(method, request)
            } catch {
                if `repeat` == .onlyWhereUnseen && !error.notProcessed {
                    throw self.error(error, processID: processID)
                }
                try await recover(&retry, from: error, processID: processID)
            }
        }
    }

    /// A call with a request key: repeated, unless the supervisor that may have seen the first
    /// attempt has been replaced, and what became of it is not known.
    func keyed<Request, Response>(
        _ method: MethodDescriptor<Request, Response>, _ request: Request
    ) async throws(SandboxError) -> Response {
        var retry = newRetryState()
        let instance = instanceID
        var isInDoubt = false
        while true {
            do {
                return try await attempt(method, request)
            } catch {
                isInDoubt = isInDoubt || !error.notProcessed
                try await recover(&retry, from: error)
            }
            if isInDoubt { try await confirmInstance(instance) }
        }
    }

    /// Once, as the channel does it.
    ///
    /// - Parameter timeout: After which it is ``GRPCCode/deadlineExceeded``. `nil` is none.
    func attempt<Request, Response>(
        _ method: MethodDescriptor<Request, Response>, _ request: Request,
        timeout: Duration? = nil
    ) async throws(GRPCStatus) -> Response {
        var options = options
        options.timeout = timeout
        return try await channel.unary(method, request, options: options)
    }

    /// Throws ``SandboxError/Reason/processLost`` where the supervisor is not this one any more:
    /// a repeat there would start the command once more.
    func confirmInstance(_ instance: String) async throws(SandboxError) {
        let answer = try await unary(ProcessService.getGateway, GetGatewayRequest())
        guard answer.instanceId != instance else { return }
        instanceID = answer.instanceId
        throw SandboxError(
            .processLost,
            "the gateway's supervisor was replaced before it answered: whether the command ran "
                + "is not known; look at what it should have done before running it again")
    }

    /// Writers of one process's stdin, one after the other, through whatever handles: an offset
    /// means something to one alone.
    func inStdinTurn<Result: Sendable>(
        of id: String, _ body: () async throws(SandboxError) -> Result
    ) async throws(SandboxError) -> Result {
        let turn = state.withLock { state -> Turn in
            let known = state.stdinTurns[id] ?? (turn: Turn(), users: 0)
            state.stdinTurns[id] = (turn: known.turn, users: known.users + 1)
            return known.turn
        }
        defer {
            state.withLock { state in
                guard let known = state.stdinTurns[id] else { return }
                state.stdinTurns[id] =
                    known.users > 1 ? (turn: known.turn, users: known.users - 1) : nil
            }
        }
        return try await turn.take(body)
    }

    // MARK: Failures

    /// Waits until the call may be made again; throws where that is not to be.
    ///
    /// - Parameter end: From when on the call is not made again.
    func recover(
        _ retry: inout RetryState, from status: GRPCStatus, processID: String? = nil,
        until end: ContinuousClock.Instant? = nil
    ) async throws(SandboxError) {
        guard status.isPassing, !isClosed, !Task.isCancelled else {
            throw error(status, processID: processID)
        }
        let left: Duration? = end.map { $0 - ContinuousClock.now }
        if let left, left <= .zero { throw error(status, processID: processID) }
        let now = ContinuousClock.now - start
        var random = SystemRandomNumberGenerator()
        let wasSent = !(status.isTransport && status.notProcessed)
        let decision = retry.failed(
            now: now, connections: channel.connectionCount, wasSent: wasSent,
            pushback: status.pushback, using: &random)
        guard case .repeatAfter(let delay) = decision else {
            throw error(status, processID: processID)
        }
        let turn = wasSent ? state.withLock { $0.budget.take(now: now) } : .zero
        do {
            let pause = max(delay, turn)
            try await Task.sleep(for: left.map { min(pause, $0) } ?? pause)
        } catch {
            throw self.error(GRPCStatus(.cancelled, "the task was cancelled"), processID: processID)
        }
        retry.begins(now: ContinuousClock.now - start)
    }

    /// What the caller is told: first whether it was the caller's own doing.
    func error(_ status: GRPCStatus, processID: String? = nil) -> SandboxError {
        if isClosed { return SandboxError(.closed, "the sandbox was closed", processID: processID) }
        if Task.isCancelled {
            return SandboxError(.cancelled, "the task was cancelled", processID: processID)
        }
        return SandboxError(status, processID: processID)
    }

    var isClosed: Bool { state.withLock { $0.isClosed } }

    func close() async {
        state.withLock { $0.isClosed = true }
        await channel.close()
    }
}
