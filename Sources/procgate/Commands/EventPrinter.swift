// A process's events on standard output and standard error: its own bytes, or JSON.

import Glibc
import ProcgateClient

struct EventPrinter {
    let json: Bool

    func started(_ process: ProcessSummary) async {
        await Output.line(JSON.object([("started", JSON(process))]).text)
    }

    func print(_ event: OutputEvent) async {
        if json { return await Output.line(JSON(event).text) }
        switch event {
        case .stdout(let chunk): await Output.write(chunk.bytes)
        case .stderr(let chunk): await Output.write(chunk.bytes, to: STDERR_FILENO)
        case .gap(let gap):
            standardError("procgate: chunks \(gap.fromSeq) to \(gap.toSeq) are not retained")
        case .exit: break
        }
    }
}
