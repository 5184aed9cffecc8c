// The last words to the gateway before this program ends. Waits for no gateway long.

import ProcgateClient

enum Farewell {
    /// Long enough for a gateway that answers; short enough for a person who waits.
    private static let usualTime = Duration.seconds(2)
    /// To hand the last frames to the kernel. The gateway need not answer.
    private static let sendingTime = Duration.milliseconds(250)

    /// Kills the process with its tree, which would go on until the gateway missed this program.
    static func kill(_ process: SandboxProcess) async {
        await bounded { _ = try? await process.kill() }
    }

    /// Sends the process the signal that ends this program. Few signals reach a queued process: it
    /// gets TERM in their place.
    static func pass(_ number: Int32, to process: SandboxProcess) async {
        await bounded {
            let isTaken = (try? await process.signal(SignalSource.name(number))) ?? true
            guard !isTaken, let summary = try? await process.refresh(), summary.status == .queued
            else { return }
            _ = try? await process.signal(.term)
        }
    }

    /// Lets the process have what was typed before the session was left.
    static func flush(_ session: AttachSession, after typing: TypedInput) async {
        await bounded {
            try? await typing.drain()
            try? await session.flush()
        }
    }

    /// Ends the session, and lets its process go on.
    /// - Returns: Whether the gateway knows that it is to go on.
    static func leave(_ session: AttachSession) async -> Bool {
        let isKnown = await bounded { (try? await session.leaveRunning()) != nil }
        session.detach()
        return isKnown ?? false
    }

    /// Whether the gateway and its supervisor answer for the process.
    static func answers(for process: SandboxProcess) async -> Bool {
        let answer = await bounded(for: .seconds(1)) { (try? await process.refresh()) != nil }
        return answer ?? false
    }

    /// Closes the connection, which cancels the calls that are open.
    static func close(_ sandbox: Sandbox) async {
        await bounded { await sandbox.close() }
    }

    /// As ``close(_:)``, for a gateway that may not answer.
    static func cancel(_ sandbox: Sandbox) async {
        await bounded(for: sendingTime) { await sandbox.close() }
    }

    /// `nil` where the time was over first.
    @discardableResult
    private static func bounded<Result: Sendable>(
        for time: Duration = usualTime, _ body: @escaping @Sendable () async -> Result
    ) async -> Result? {
        let (results, feed) = AsyncStream.makeStream(
            of: Result?.self, bufferingPolicy: .bufferingOldest(1))
        let work = Task { feed.yield(await body()) }
        let clock = Task {
            try? await Task.sleep(for: time)
            feed.yield(nil)
        }
        defer {
            work.cancel()
            clock.cancel()
        }
        for await result in results { return result }
        return nil
    }
}
