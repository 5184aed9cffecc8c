// A command that is run and read at once: what `exec` collects from.

internal import GRPCWire
internal import ProcgateV1
import Synchronization

/// A command's output as it comes, in one pass: what ``Sandbox/execStream(_:arguments:options:stdin:)``
/// returns.
///
/// The command is held back to what is read here. Dropping the stream before its exit, or
/// cancelling the task that reads it, kills the command's whole tree. One task reads at a time;
/// iterators that are made one after the other go on where the last one stopped.
public struct ExecStream: AsyncSequence, Sendable {
    public typealias Element = OutputEvent
    public typealias Failure = any Error

    /// The command's process: running, or queued.
    public let process: SandboxProcess
    let reader: EventReader
    let feed: StdinFeed?

    public func makeAsyncIterator() -> AsyncIterator {
        AsyncIterator(events: events.makeAsyncIterator())
    }

    public struct AsyncIterator: AsyncIteratorProtocol {
        var events: Events.AsyncIterator

        /// The next event; `nil` after the exit.
        public mutating func next(
            isolation actor: isolated (any Actor)? = #isolation
        ) async throws -> OutputEvent? {
            while let event = try await events.next(isolation: actor) {
                if case .output(let output) = event { return output }
            }
            return nil
        }

        public mutating func next() async throws -> OutputEvent? {
            try await next(isolation: nil)
        }
    }

    /// The same pass, with what comes before the output: that the command is queued, that it has
    /// started. Once output was read from the stream itself, these are gone by.
    public var events: Events { Events(stream: self) }

    /// What ``ExecStream/events`` is.
    public struct Events: AsyncSequence, Sendable {
        public typealias Element = CommandEvent
        public typealias Failure = any Error

        let stream: ExecStream

        public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(stream: stream) }

        public struct AsyncIterator: AsyncIteratorProtocol {
            let stream: ExecStream

            /// The next event; `nil` after the exit.
            public mutating func next(
                isolation actor: isolated (any Actor)? = #isolation
            ) async throws -> CommandEvent? {
                let event: CommandEvent?
                do {
                    event = try await stream.reader.next()
                } catch {
                    throw forCaller(error)
                }
                guard let event else { return nil }
                stream.process.note(event)
                if case .output(.exit) = event, let failure = stream.feed?.failure {
                    throw failure
                }
                return event
            }

            public mutating func next() async throws -> CommandEvent? {
                try await next(isolation: nil)
            }
        }
    }

    /// Makes the call and returns with the process's id; its output is read by the iterators.
    static func open(
        _ source: EventReader.Source, calls: GatewayCalls
    ) async throws(SandboxError) -> ExecStream {
        let reader = EventReader(source, calls: calls)
        let process = SandboxProcess(try await reader.identify(), calls: calls)
        return ExecStream(process: process, reader: reader, feed: nil)
    }
}

/// Gives a command its stdin while its output is read. Its task ends with the value.
final class StdinFeed: Sendable {
    private let task: Mutex<Task<Void, Never>?> = Mutex(nil)
    private let failed: Mutex<SandboxError?> = Mutex(nil)

    /// What the input threw; the command was killed for it.
    var failure: SandboxError? { failed.withLock { $0 } }

    init<Input: AsyncSequence & Sendable>(
        _ input: Input, to process: SandboxProcess
    ) where Input.Element: StdinData {
        let task = Task { [weak self] in
            do throws(SandboxError) {
                _ = try await process.writeStdin(
                    input, eof: true, finishingAfterFailure: false)
            } catch {
                await self?.stopped(by: error, process)
            }
        }
        self.task.withLock { $0 = task }
    }

    deinit {
        task.withLock { $0?.cancel() }
    }

    /// A command that does not read on, or has ended, is no fault of the input. A closed sandbox is
    /// reported by the reader.
    private func stopped(by error: SandboxError, _ process: SandboxProcess) async {
        switch error.reason {
        case .stdinClosed, .processNotRunning, .processNotFound, .cancelled, .closed: return
        default:
            failed.withLock { $0 = error }
            // The reader reports; where the gateway is gone, so is the reader's call.
            _ = try? await process.kill()
        }
    }
}
