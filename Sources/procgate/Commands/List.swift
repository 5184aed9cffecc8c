// procgate ps: the processes that a gateway knows.

import ArgumentParser
import Glibc
import ProcgateClient

struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ps",
        abstract: "List processes, newest first.",
        discussion: """
            With --json an array of processes; with --watch each change is a line: \
            {"process":…}, {"deletedId":…}.
            """)

    @OptionGroup var gateway: GatewayOptions

    @Option(
        help: ArgumentHelp(
            "Those that stand so; may be repeated.", valueName: "status"))
    var status: [ProcessStatus] = []

    @Option(
        help: ArgumentHelp("Those with this label; may be repeated.", valueName: "k=v"))
    var label: [KeyValueArgument] = []

    @Option(
        help: ArgumentHelp(
            "The most to list; with --watch the lines after which to leave. "
                + "(default: 100; with --watch none)", valueName: "n"))
    var limit: Int?

    @Flag(help: "Go on with each change, until ^C.")
    var watch = false

    func validate() throws {
        guard limit.map({ $0 > 0 }) ?? true else { throw ValidationError("--limit is at least 1") }
    }

    func run() async throws {
        SignalSource.ignoreBrokenPipes()
        try await gateway.withSandbox { sandbox in
            watch ? try await follow(sandbox) : try await list(sandbox)
        }
    }

    private func list(_ sandbox: Sandbox) async throws {
        let limit = limit ?? 100
        var found: [ProcessSummary] = []
        var cursor: String?
        repeat {
            let page = try await sandbox.processes.list(
                status: status, limit: min(limit - found.count, 1000), cursor: cursor,
                labels: label.dictionary)
            found += page.data
            cursor = page.nextCursor
        } while cursor != nil && found.count < limit
        if gateway.json {
            return try await Output.line(JSON.array(found.map { JSON($0) }).indented)
        }
        let now = ProcessText.now
        var table = Table(ProcessText.headings)
        for process in found { table.append(ProcessText.row(process, now: now)) }
        let lines = table.lines(width: width)
        let style = Style.output
        var text = style.heading(lines[0]) + "\n"
        for (process, line) in zip(found, lines.dropFirst()) {
            text += coloured(line, process, style) + "\n"
        }
        try await Output.write(Array(text.utf8))
    }

    private func follow(_ sandbox: Sandbox) async throws {
        // An id has 26 characters; the others are as wide as they mostly get.
        let widths = [26, 9, 8, 6, 8]
        var left = limit ?? .max
        let style = Style.output
        if !gateway.json {
            try await Output.line(
                style.heading(Table.line(ProcessText.headings, widths, width: width)))
        }
        for try await change in sandbox.processes.watch(labels: label.dictionary) {
            if case .process(let process) = change, !status.isEmpty,
                !status.contains(process.status)
            {
                continue
            }
            if gateway.json {
                try await Output.line(JSON(change).text)
            } else {
                try await Output.line(line(change, widths, style))
            }
            left -= 1
            if left == 0 { return }
        }
    }

    /// Of the terminal as it is now: it may have been resized. `nil` where there is none.
    private var width: Int? { Terminal.isOutput ? Terminal.size.columns : nil }

    private func line(_ change: ProcessChange, _ widths: [Int], _ style: Style) -> String {
        switch change {
        case .process(let process):
            let row = ProcessText.row(process, now: ProcessText.now)
            return coloured(Table.line(row, widths, width: width), process, style)
        case .deleted(let id):
            return Table.line([id, "forgotten", "", "", "", ""], widths, width: width)
        }
    }

    /// The status stands second, behind the id.
    private func coloured(_ line: String, _ process: ProcessSummary, _ style: Style) -> String {
        let status = process.status.rawValue
        guard style.isColoured, let place = line.dropFirst(process.id.count).firstRange(of: status)
        else { return line }
        return line.replacingCharacters(
            in: place, with: style.status(process.status, status))
    }
}

extension String {
    fileprivate func replacingCharacters(in range: Range<Index>, with text: String) -> String {
        String(self[..<range.lowerBound]) + text + String(self[range.upperBound...])
    }
}
