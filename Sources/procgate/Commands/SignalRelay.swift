// Carries out what the signals to this program mean, from before the command has started to its
// end. Waits for the gateway in tasks of their own, so that the next signal is always heard.

import Glibc
import ProcgateClient
import Synchronization

final class SignalRelay: Sendable {
    private struct State {
        var plan = SignalPlan()
        var sandbox: Sandbox?
        var process: SandboxProcess?
        /// Came before there was a process. At most two: the third ends this program.
        var early: [(action: SignalPlan.Action, number: Int32)] = []
        var resize: (@Sendable () async -> Void)?
        /// A signal is about to end this program.
        var isLeaving = false
    }

    private let state = Mutex(State())

    func start(_ signals: AsyncStream<Int32>) -> Task<Void, Never> {
        Task { for await number in signals { await received(number) } }
    }

    /// From now on a command can be cancelled.
    func connected(to sandbox: Sandbox) {
        state.withLock { $0.sandbox = sandbox }
    }

    /// The process is known: what came for it before is done now.
    func joined(_ process: SandboxProcess) {
        let early = state.withLock { state in
            state.process = process
            defer { state.early = [] }
            return state.early
        }
        for (action, number) in early { perform(action, number, on: process) }
    }

    /// - Parameter resize: Gives the process's terminal the size of this one; `nil` where the process
    ///   has none.
    func begin(_ session: SignalPlan.Session, resize: (@Sendable () async -> Void)?) {
        state.withLock { state in
            state.plan.session = session
            state.resize = resize
        }
    }

    /// Runs what a signal may end. Where one does, its exit status is this program's, and nothing of
    /// the end of `body` is told.
    func run<Result>(_ body: () async throws -> Result) async throws -> Result {
        do {
            let result = try await body()
            await stayWhileLeaving()
            return result
        } catch {
            await stayWhileLeaving()
            throw error
        }
    }

    private func stayWhileLeaving() async {
        guard state.withLock({ $0.isLeaving }) else { return }
        await withUnsafeContinuation { (_: UnsafeContinuation<Void, Never>) in }
    }

    private func received(_ number: Int32) async {
        let (action, process) = state.withLock { state in
            let action = state.plan.action(for: number)
            state.isLeaving = state.isLeaving || action == .leave || action == .passAndLeave
            if state.process == nil, action == .pass || action == .stop {
                state.early.append((action, number))
            }
            return (action, state.process)
        }
        switch action {
        case .leave:
            await leave(number)
        case .passAndLeave:
            if let process { await Farewell.pass(number, to: process) }
            Self.exit(by: number)
        case .pass, .stop, .resize:
            if let process { perform(action, number, on: process) }
        }
    }

    private func perform(
        _ action: SignalPlan.Action, _ number: Int32, on process: SandboxProcess
    ) {
        let resize = state.withLock { $0.resize }
        Task {
            switch action {
            case .pass:
                // A process that has ended needs no signal; the reader of its output tells of a
                // gateway that is gone.
                _ = try? await process.signal(SignalSource.name(number))
                state.withLock { $0.plan.answered() }
            case .stop: _ = try? await process.stop()
            case .resize: await resize?()
            case .leave, .passAndLeave: break
            }
        }
    }

    /// Ends this program at once, whether or not the gateway answers. The gateway hears of the end of
    /// the call as soon as it can, and kills the command unless it is to be kept.
    func leave(_ number: Int32) async -> Never {
        let sandbox = state.withLock { state in
            state.isLeaving = true
            return state.sandbox
        }
        if let sandbox { await Farewell.cancel(sandbox) }
        Self.exit(by: number)
    }

    private static func exit(by number: Int32) -> Never {
        Terminal.restore()
        Glibc.exit(128 + number)
    }
}
