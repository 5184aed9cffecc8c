// A process's events on standard output and standard error: its own bytes, or JSON.

import Glibc
import ProcgateClient

struct EventPrinter {
    let json: Bool
    /// The terminal is raw: there a line's end does not go back to the left.
    var isRaw = false

    /// That it is queued, or has started, is told in JSON alone.
    func print(_ event: CommandEvent) async throws {
        switch event {
        case .queued(let process): try await stands(process, as: "queued")
        case .started(let process): try await stands(process, as: "started")
        case .output(let output): try await print(output)
        }
    }

    /// A session that joined the process has missed that.
    func joined(_ process: ProcessSummary) async throws {
        try await stands(process, as: process.status == .queued ? "queued" : "started")
    }

    private func stands(_ process: ProcessSummary, as name: String) async throws {
        guard json else { return }
        try await line(JSON.object([(name, JSON(process))]))
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
