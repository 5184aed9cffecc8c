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

    /// The supervisor, as it was when it was asked for.
    private struct Instance {
        var id = ""
        var askedAt = ContinuousClock.now
        /// The channel's losses until then.
        var losses = 0
    }

    private struct State {
        var budget = RetryBudget()
        var instance = Instance()
        var isAskingInstance = false
        /// The largest request that the gateway takes; 0 where it has not told.
        var maxMessageBytes: UInt64 = 0
        /// Of the processes whose stdin is being written; as many as there are writers.
        var stdinTurns: [String: (turn: Turn, users: Int)] = [:]
        /// The processes whose stdin is a session's; as many as there are sessions that write.
        var stdinSessions: [String: Int] = [:]
    }

    /// How long a supervisor is taken to be the same while the connection holds: a gateway may
    /// have to start another one.
    private static let instanceAge = Duration.seconds(60)
    /// How long the question for it may keep a command waiting.
    private static let instanceTime = Duration.seconds(5)

    /// What a request with stdin has besides: the id of its process with 28 bytes, its place with
    /// 11, its end with 2, and 6 before the data; and some for ids that are longer.
    private static let fieldBytes = 64

    let channel: GRPCChannel
    private let token: String?
    private let patience: Duration
    private let start = ContinuousClock.now
    private let state = Mutex(State())
    /// Raised by ``close()``.
    let closing: Alarm
    /// The node of a fleet that calls without a process id are for; nil leaves it to the proxy.
    private let node: String?

    init(channel: GRPCChannel, token: String?, patience: Duration) {
        self.channel = channel
        self.token = token
        self.patience = patience
        closing = Alarm()
        node = nil
    }

    /// Calls of one node, over the same channel.
    init(of other: GatewayCalls, on node: String) {
        channel = other.channel
        token = other.token
        patience = other.patience
        closing = other.closing
        self.node = node
    }

    /// By which a proxy, and the gateway behind it, knows the node that a call is for.
    private static let nodeField = "procgate-node"

    /// - Parameter processID: The process that the call names: its id says on which node it is.
    func options(for processID: String? = nil) -> CallOptions {
        var options = CallOptions()
        if let token { options.metadata.append("authorization", "Bearer \(token)") }
        let ofProcess = processID.flatMap { id in
            id.lastIndex(of: "-").map { String(id[..<$0]) }
        }
        if let node = ofProcess ?? node, Self.isSendable(node) {
            options.metadata.append(Self.nodeField, node)
        }
        return options
    }

    /// Metadata is printable ASCII; a name that is not belongs to no node, as the gateway will say
    /// of the process.
    private static func isSendable(_ node: String) -> Bool {
        !node.isEmpty && node.utf8.count <= 256 && node.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F }
    }

    func newRetryState() -> RetryState { RetryState(patience: patience) }

    /// The first call: is the gateway there, and does it take the caller's token?
    func greet(for patience: Duration) async throws(SandboxError) {
        var retry = RetryState(patience: patience)
        while true {
            let losses = channel.lossCount
            do {
                let answer = try await attempt(ProcessService.getGateway, GetGatewayRequest())
                note(answer, losses)
                return
            } catch {
                try await recover(&retry, from: error)
            }
        }
    }

    // MARK: Calls

    func unary<Request, Response>(
        _ method: MethodDescriptor<Request, Response>, _ request: Request,
        repeat: Repeat = .harmless, processID: String? = nil, unless alarm: Alarm? = nil,
        after session: String? = nil
    ) async throws(SandboxError) -> Response {
        var retry = newRetryState()
        while true {
            do {
                return try await attempt(
                    method, request, processID: processID, after: session)
            } catch {
                if `repeat` == .onlyWhereUnseen && !error.notProcessed {
                    throw self.error(error, processID: processID)
                }
                try await recover(&retry, from: error, processID: processID, unless: alarm)
            }
        }
    }

    /// A call with a request key: repeated, unless the supervisor that may have seen the first
    /// attempt has been replaced, and what became of it is not known.
    func keyed<Request, Response>(
        _ method: MethodDescriptor<Request, Response>, _ request: Request
    ) async throws(SandboxError) -> Response {
        var retry = newRetryState()
        let instance = await currentInstance()
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

    /// A task that is cancelled already asks for nothing: what it sent would be run.
    static func checkCancellation() throws(GRPCStatus) {
        if Task.isCancelled { throw .taskCancelled }
    }

    /// Once, as the channel does it.
    ///
    /// - Parameters:
    ///   - timeout: After which it is ``GRPCCode/deadlineExceeded``. `nil` is none.
    ///   - session: Of which nothing is to be acted on after this call.
    func attempt<Request, Response>(
        _ method: MethodDescriptor<Request, Response>, _ request: Request,
        timeout: Duration? = nil, processID: String? = nil, after session: String? = nil
    ) async throws(GRPCStatus) -> Response {
        try Self.checkCancellation()
        var options = options(for: processID)
        options.timeout = timeout
        if let session { options.metadata.append(Fence.afterField, session) }
        return try await channel.unary(method, request, options: options)
    }

    /// The supervisor that the next call reaches: asked for, where it may be another one than the
    /// last time. Where that is not answered, the last one that was known.
    func currentInstance() async -> String {
        let losses = channel.lossCount
        let known: String? = state.withLock { state in
            let isFresh =
                state.instance.losses == losses
                && ContinuousClock.now - state.instance.askedAt < Self.instanceAge
            if isFresh || state.isAskingInstance { return state.instance.id }
            state.isAskingInstance = true
            return nil
        }
        if let known { return known }
        defer { state.withLock { $0.isAskingInstance = false } }
        let answer = try? await attempt(
            ProcessService.getGateway, GetGatewayRequest(), timeout: Self.instanceTime)
        if let answer { note(answer, losses) }
        return state.withLock { $0.instance.id }
    }

    private func note(_ gateway: GetGatewayResponse, _ losses: Int) {
        let now = Instance(id: gateway.instanceId, losses: losses)
        state.withLock { state in
            state.instance = now
            state.maxMessageBytes = gateway.maxMessageBytes
        }
    }

    /// The largest request that the gateway takes, in bytes.
    var requestBytes: Int {
        let told = state.withLock { $0.maxMessageBytes }
        return told == 0 ? .max : Int(clamping: told)
    }

    /// The most of stdin that one request carries beside its own fields, up to `most`.
    func stdinBytes(atMost most: Int) -> Int {
        min(most, max(1, requestBytes - Self.fieldBytes))
    }

    /// Throws ``SandboxError/Reason/processLost`` where the supervisor is not this one any more:
    /// a repeat there would start the command once more.
    func confirmInstance(
        _ instance: String, unless alarm: Alarm? = nil
    ) async throws(SandboxError) {
        let losses = channel.lossCount
        let answer = try await unary(
            ProcessService.getGateway, GetGatewayRequest(), unless: alarm)
        note(answer, losses)
        guard answer.instanceId != instance else { return }
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

    /// A session's input has no offset: from its first on, it is the only writer of this client.
    /// Waits for those who write.
    func claimStdin(of id: String) async throws(SandboxError) {
        try await inStdinTurn(of: id) { () async throws(SandboxError) -> Void in
            state.withLock { $0.stdinSessions[id, default: 0] += 1 }
        }
    }

    func unclaimStdin(of id: String) {
        state.withLock { state in
            let count = state.stdinSessions[id] ?? 0
            state.stdinSessions[id] = count > 1 ? count - 1 : nil
        }
    }

    func isStdinClaimed(of id: String) -> Bool {
        state.withLock { $0.stdinSessions[id] != nil }
    }

    // MARK: Failures

    /// Waits until the call may be made again; throws where that is not to be.
    ///
    /// - Parameters:
    ///   - end: From when on the call is not made again.
    ///   - alarm: Nobody wants the call any more once it is raised.
    func recover(
        _ retry: inout RetryState, from status: GRPCStatus, processID: String? = nil,
        until end: ContinuousClock.Instant? = nil, unless alarm: Alarm? = nil
    ) async throws(SandboxError) {
        guard status.isPassing, isWanted(unless: alarm) else {
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
        let wait = max(delay, turn)
        await pause(
            for: left.map { min(wait, $0) } ?? wait,
            until: alarm.map { [closing, $0] } ?? [closing])
        guard isWanted(unless: alarm) else { throw error(status, processID: processID) }
        retry.begins(now: ContinuousClock.now - start)
    }

    private func isWanted(unless alarm: Alarm?) -> Bool {
        !isClosed && !Task.isCancelled && alarm?.isRaised != true
    }

    /// What the caller is told: first whether it was the caller's own doing.
    func error(_ status: GRPCStatus, processID: String? = nil) -> SandboxError {
        if isClosed { return SandboxError(.closed, "the sandbox was closed", processID: processID) }
        if Task.isCancelled { return .taskCancelled(processID) }
        return SandboxError(status, processID: processID)
    }

    var isClosed: Bool { closing.isRaised }

    func close() async {
        closing.raise()
        await channel.close()
    }
}
