// A process's events on standard output and standard error: its own bytes, or JSON.

import Glibc
import ProcgateClient

struct EventPrinter {
    let json: Bool
    /// The terminal is raw: there a line's end does not go back to the left.
    var isRaw = false

    func started(_ process: ProcessSummary) async throws {
        try await line(JSON.object([("started", JSON(process))]))
    }

    func print(_ event: OutputEvent) async throws {
        if json { return try await line(JSON(event)) }
        switch event {
        case .stdout(let chunk): try await Output.write(chunk.bytes)
        case .stderr(let chunk): try await Output.write(chunk.bytes, to: STDERR_FILENO)
        case .gap(let gap):
            standardError(
                "procgate: chunks \(gap.fromSeq) to \(gap.toSeq) are not retained"
                    + (isRaw ? "\r" : ""))
        case .exit: break
        }
    }

    private func line(_ json: JSON) async throws {
        try await Output.line(json.text + (isRaw ? "\r" : ""))
    }
}
