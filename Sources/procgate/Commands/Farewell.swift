// What is still done for a process when this program ends before it. Waits for no gateway long.

import ProcgateClient

enum Farewell {
    /// Long enough for a gateway that answers; short enough for who has pressed ^C.
    private static let patience = Duration.seconds(2)

    /// Kills the process with its tree, which would go on until the gateway missed this program.
    static func kill(_ process: SandboxProcess) async {
        await bounded { _ = try? await process.kill() }
    }

    /// Sends it the signal that ends this program. One that is still queued is reached by few:
    /// there TERM does the same.
    static func pass(_ number: Int32, to process: SandboxProcess) async {
        await bounded {
            let isTaken = (try? await process.signal(SignalSource.name(number))) ?? true
            guard !isTaken, let summary = try? await process.refresh(), summary.status == .queued
            else { return }
            _ = try? await process.signal(.term)
        }
    }

    /// Lets the process have what was typed before the session was left.
    static func flush(_ session: AttachSession) async {
        await bounded { try? await session.flush() }
    }

    /// Closes the connection, which cancels the calls that are open.
    static func close(_ sandbox: Sandbox) async {
        await bounded { await sandbox.close() }
    }

    private static func bounded(_ body: @escaping @Sendable () async -> Void) async {
        let (end, feed) = AsyncStream.makeStream(
            of: Void.self, bufferingPolicy: .bufferingOldest(1))
        let work = Task {
            await body()
            feed.finish()
        }
        let clock = Task {
            try? await Task.sleep(for: patience)
            feed.finish()
        }
        for await _ in end {}
        work.cancel()
        clock.cancel()
    }
}
