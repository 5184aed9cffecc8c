// A process's output as a sequence that is pulled.

internal import ProcgateV1

/// What a process does, from a chunk of its output to its exit: what
/// ``SandboxProcess/stream(fromSeq:follow:allowGaps:streams:)`` returns.
///
/// Each iteration is a call of its own, made at the first `next()`. A reader that is slow holds
/// back its own stream, no other and not the process, unless it was started with `holdWhenFull`;
/// dropping the iterator ends the call. Lost connections are not seen: the iteration goes on with
/// the chunk after the last one.
public struct OutputEvents: AsyncSequence, Sendable {
    public typealias Element = OutputEvent
    public typealias Failure = any Error

    private let calls: GatewayCalls
    private let request: StreamOutputRequest

    init(calls: GatewayCalls, request: StreamOutputRequest) {
        self.calls = calls
        self.request = request
    }

    public func makeAsyncIterator() -> AsyncIterator {
        AsyncIterator(reader: EventReader(.output(request), calls: calls))
    }

    public struct AsyncIterator: AsyncIteratorProtocol {
        let reader: EventReader

        /// The next event; `nil` after the exit.
        public mutating func next(
            isolation actor: isolated (any Actor)? = #isolation
        ) async throws -> OutputEvent? {
            do {
                while let event = try await reader.next() {
                    if case .output(let output) = event { return output }
                }
            } catch {
                throw forCaller(error)
            }
            return nil
        }

        public mutating func next() async throws -> OutputEvent? {
            try await next(isolation: nil)
        }
    }
}
