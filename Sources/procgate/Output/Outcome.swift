// How a command's end becomes this program's exit status.

import ArgumentParser
import ProcgateClient

enum Outcome {
    /// As the command did: its code, 128 + n for signal n, 124 for a timeout.
    /// - Throws: `Failure` where it could not be run, or was taken out of the queue.
    static func exitCode(_ process: ProcessSummary) throws(Failure) -> ExitCode {
        switch process.status {
        case .timedOut: return ExitCode(ExitStatus.timedOut.rawValue)
        case .exited: return ExitCode(Int32(process.exitCode ?? 0))
        case .killed:
            if let number = process.signalNumber { return ExitCode(128 + Int32(number)) }
            throw Failure("the process was stopped before it ran (\(reason(process)))")
        case .failed:
            throw Failure("the command could not be run: \(process.error ?? reason(process))")
        case .queued, .running:
            throw Failure("the process has not ended, though the gateway said so")
        }
    }

    private static func reason(_ process: ProcessSummary) -> String {
        process.terminationReason?.rawValue ?? "no reason given"
    }
}
