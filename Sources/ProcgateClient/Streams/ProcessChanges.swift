// Watching: how the processes stand, and each change.

internal import GRPCWire
internal import ProcgateV1

/// A process that is new or stands differently, or one that was forgotten.
public enum ProcessChange: Sendable, Hashable {
    /// As it stands now.
    case process(ProcessSummary)
    /// It was forgotten.
    case deleted(id: String)
}

/// What ``Processes/watch(labels:)`` returns. It has no end of its own.
///
/// After a lost connection it goes on with how the processes stand then: what has not changed in
/// between is not told again, and of what was forgotten in between nothing is heard any more.
public struct ProcessChanges: AsyncSequence, Sendable {
    public typealias Element = ProcessChange
    public typealias Failure = any Error

    let calls: GatewayCalls
    let labels: [String: String]

    public func makeAsyncIterator() -> AsyncIterator {
        AsyncIterator(calls: calls, labels: labels)
    }

    public struct AsyncIterator: AsyncIteratorProtocol {
        private let calls: GatewayCalls
        private let labels: [String: String]
        private var retry: RetryState
        private var responses: ResponseStream<WatchProcessesResponse>.AsyncIterator?
        /// As they were last told: as many as the gateway remembers.
        private var told: [String: ProcessStatus] = [:]

        init(calls: GatewayCalls, labels: [String: String]) {
            self.calls = calls
            self.labels = labels
            retry = calls.newRetryState()
        }

        /// The next change; waits for it as long as it takes.
        public mutating func next(
            isolation actor: isolated (any Actor)? = #isolation
        ) async throws -> ProcessChange? {
            do {
                return try await nextChange(isolation: actor)
            } catch {
                throw forCaller(error)
            }
        }

        private mutating func nextChange(
            isolation actor: isolated (any Actor)?
        ) async throws -> ProcessChange? {
            while true {
                do {
                    if responses == nil {
                        var request = WatchProcessesRequest()
                        request.labels = labels
                        responses = calls.watch(request)
                    }
                    guard let response = try await responses?.next(isolation: actor) else {
                        throw GRPCStatus.transport(.unavailable, "the watch ended")
                    }
                    retry.succeeded()
                    if let change = try news(response) { return change }
                } catch let status as GRPCStatus {
                    responses = nil
                    try await calls.recover(&retry, from: status)
                } catch let error as SandboxError {
                    throw error
                } catch {
                    throw SandboxError(.unknown, "\(error)")
                }
            }
        }

        public mutating func next() async throws -> ProcessChange? {
            try await next(isolation: nil)
        }

        private mutating func news(
            _ response: WatchProcessesResponse
        ) throws(SandboxError) -> ProcessChange? {
            switch response.event {
            case .process(let wire):
                guard let summary = ProcessSummary(wire) else { throw .notUnderstood("a process") }
                guard told[summary.id] != summary.status else { return nil }
                told[summary.id] = summary.status
                return .process(summary)
            case .deletedId(let id):
                return told.removeValue(forKey: id).map { _ in .deleted(id: id) }
            case .keepAlive, nil: return nil
            }
        }
    }
}
