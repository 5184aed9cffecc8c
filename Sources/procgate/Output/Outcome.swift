// How a command's end becomes this program's exit status.

import ArgumentParser
import ProcgateClient

enum Outcome {
    /// As the command did: its code, 128 + n for signal n, 124 for a timeout.
    /// - Throws: `Failure` where it could not be run, with 127 or 126 where that was the program's
    ///   fault, or was taken out of the queue.
    static func exitCode(_ process: ProcessSummary) throws(Failure) -> ExitCode {
        switch process.status {
        case .timedOut: return ExitCode(ExitStatus.timedOut.rawValue)
        case .exited: return ExitCode(Int32(process.exitCode ?? 0))
        case .killed:
            if let number = process.signalNumber { return ExitCode(128 + Int32(number)) }
            throw Failure("the process was stopped before it ran (\(reason(process)))")
        case .failed:
            throw Failure(
                "the command could not be run: \(process.error ?? reason(process))",
                status: failedStatus(process.terminationReason, process.error ?? ""))
        case .queued, .running:
            throw Failure("the process has not ended, though the gateway said so")
        }
    }

    /// The contract has no code for why a program was not executed: its supervisor says so in words,
    /// by the error of `execve`.
    static func failedStatus(_ reason: TerminationReason?, _ error: String) -> ExitStatus {
        guard reason == .startFailed, error.hasPrefix("cannot execute '") else { return .failure }
        return error.hasSuffix(": No such file or directory") ? .notFound : .notExecutable
    }

    private static func reason(_ process: ProcessSummary) -> String {
        process.terminationReason?.rawValue ?? "no reason given"
    }
}
