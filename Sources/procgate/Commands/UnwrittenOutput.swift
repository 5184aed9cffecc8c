// What becomes of a command whose output cannot be written any more.

import ArgumentParser
import ProcgateClient

enum UnwrittenOutput {
    /// The end of a command that has printed its last words follows within that time.
    private static let patience = Duration.milliseconds(500)

    /// Waits a moment for the end of the command, and kills the command where it goes on: nobody sees
    /// what it does, and nobody will come back for it.
    /// - Parameters:
    ///   - error: Why the output could not be written.
    ///   - result: How the command ended, where that was known before.
    /// - Returns: What to throw: the exit status of the command where that is not 0, else `error`.
    static func outcome<Events: AsyncSequence & Sendable>(
        after error: any Error, _ result: ProcessResult?, of process: SandboxProcess,
        rest events: Events
    ) async -> any Error where Events.Element == CommandEvent {
        var ended = result
        if ended == nil { ended = await end(of: events) }
        guard let ended else {
            await Farewell.kill(process)
            return error
        }
        do throws(Failure) {
            let code = try Outcome.exitCode(ended.process)
            guard code != .success else { return error }
            if let failure = error as? Failure { standardError("procgate: \(failure.message)") }
            return code
        } catch {
            return error
        }
    }

    private static func end<Events: AsyncSequence & Sendable>(
        of events: Events
    ) async -> ProcessResult? where Events.Element == CommandEvent {
        let reading = Task { () -> ProcessResult? in
            var iterator = events.makeAsyncIterator()
            while let event = try? await iterator.next() {
                if case .output(.exit(let result)) = event { return result }
            }
            return nil
        }
        let clock = Task {
            guard (try? await Task.sleep(for: patience)) != nil else { return }
            reading.cancel()
        }
        defer { clock.cancel() }
        return await reading.value
    }
}
