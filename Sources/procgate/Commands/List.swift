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
            "Only processes with this status; may be repeated.", valueName: "status"))
    var status: [ProcessStatus] = []

    @Option(
        help: ArgumentHelp(
            "Only processes with this label; may be repeated.", valueName: "k=v"))
    var label: [KeyValueArgument] = []

    @Option(
        help: ArgumentHelp(
            "The most to list; with --watch the lines after which to leave. "
                + "(default: 100; with --watch none)", valueName: "n"))
    var limit: Int?

    @Flag(help: "Go on with each change, until ^C.")
    var watch = false

    @Flag(name: [.customShort("q"), .customLong("quiet")], help: "Print whole ids, nothing else.")
    var quiet = false

    @Flag(help: "Print whole ids in the table.")
    var noTrunc = false

    @Flag(help: "Ask every node of --nodes, or of $PROCGATE_NODES.")
    var allNodes = false

    @Option(
        help: ArgumentHelp(
            "The nodes to ask, separated by commas. (default: $PROCGATE_NODES)",
            valueName: "a,b"))
    var nodes: String?

    /// Of a fleet; empty where the gateway alone is asked.
    private var nodeNames: [String] {
        guard allNodes else { return [] }
        return (nodes ?? environment("PROCGATE_NODES") ?? "").split(separator: ",")
            .map { $0.filter { !$0.isWhitespace } }.filter { !$0.isEmpty }
    }

    func validate() throws {
        guard nodes == nil || allNodes else {
            throw ValidationError("--nodes goes with --all-nodes")
        }
        guard !allNodes || !nodeNames.isEmpty else {
            throw ValidationError("--all-nodes needs the names of the nodes: give --nodes A,B")
        }
        guard !allNodes || (!watch && gateway.node == nil) else {
            throw ValidationError("--all-nodes goes with neither --watch nor --node")
        }
        guard limit.map({ $0 > 0 }) ?? true else { throw ValidationError("--limit is at least 1") }
    }

    func run() async throws {
        SignalSource.ignoreBrokenPipes()
        try await gateway.withSandbox { sandbox in
            watch ? try await follow(sandbox) : try await list(sandbox)
        }
    }

    private func list(_ sandbox: Sandbox) async throws {
        guard allNodes else { return try await print(try await processes(of: sandbox)) }
        var found: [ProcessSummary] = []
        var failures: [Failure] = []
        for node in nodeNames {
            do {
                found += try await processes(of: sandbox.on(node: node))
            } catch let error as SandboxError {
                failures.append(
                    Failure("node \(node) does not answer: \(error.message)", status: .unreachable))
            }
        }
        found.sort { $0.createdAt > $1.createdAt }
        try await print(Array(found.prefix(mostListed)))
        guard failures.isEmpty else { throw Failures(all: failures) }
    }

    private var mostListed: Int { limit ?? 100 }

    private func processes(of sandbox: Sandbox) async throws -> [ProcessSummary] {
        var found: [ProcessSummary] = []
        var cursor: String?
        repeat {
            let page = try await sandbox.processes.list(
                status: status, limit: min(mostListed - found.count, 1000), cursor: cursor,
                labels: label.dictionary)
            found += page.data
            cursor = page.nextCursor
        } while cursor != nil && found.count < mostListed
        return found
    }

    private func print(_ found: [ProcessSummary]) async throws {
        if gateway.json {
            let all = found.map { quiet ? JSON.string($0.id) : JSON($0) }
            return try await Output.line(JSON.array(all).indented)
        }
        let lines = quiet ? found.map(\.id) : table(of: found)
        try await Output.write(Array(lines.map { $0 + "\n" }.joined().utf8))
    }

    private func table(of found: [ProcessSummary]) -> [String] {
        let now = ProcessText.now
        var table = Table(ProcessText.headings)
        for process in found { table.append(row(process, now: now)) }
        let lines = table.lines(width: width)
        let style = Style.output
        return [style.heading(lines[0])]
            + zip(found, lines.dropFirst()).map { coloured($1, $0, style) }
    }

    private func follow(_ sandbox: Sandbox) async throws {
        // The other columns are as wide as they mostly get.
        let widths = [noTrunc ? 26 : ProcessID.shownCharacters, 9, 8, 6, 8]
        var left = limit ?? .max
        let style = Style.output
        if !gateway.json && !quiet {
            let heading = Table.line(ProcessText.headings, widths, width: width)
            try await Output.line(style.heading(heading))
        }
        for try await change in sandbox.processes.watch(labels: label.dictionary) {
            guard let line = line(change, widths, style) else { continue }
            try await Output.line(line)
            left -= 1
            if left == 0 { return }
        }
    }

    /// Of the terminal as it is now: it may have been resized. `nil` where there is none.
    private var width: Int? { Terminal.isOutput ? Terminal.size.columns : nil }

    /// `nil` for a change that is not to be shown.
    private func line(_ change: ProcessChange, _ widths: [Int], _ style: Style) -> String? {
        switch change {
        case .process(let process):
            guard status.isEmpty || status.contains(process.status) else { return nil }
            if quiet { return gateway.json ? JSON.string(process.id).text : process.id }
            if gateway.json { return JSON(change).text }
            let line = Table.line(row(process, now: ProcessText.now), widths, width: width)
            return coloured(line, process, style)
        case .deleted(let id):
            if quiet { return nil }
            if gateway.json { return JSON(change).text }
            return Table.line([shown(id), "forgotten", "", "", "", ""], widths, width: width)
        }
    }

    private func shown(_ id: String) -> String { noTrunc ? id : ProcessID.cut(id) }

    private func row(_ process: ProcessSummary, now: UnixMilliseconds) -> [String] {
        ProcessText.row(process, id: shown(process.id), now: now)
    }

    /// The status stands second, behind the id.
    private func coloured(_ line: String, _ process: ProcessSummary, _ style: Style) -> String {
        let status = process.status.rawValue
        guard style.isColoured,
            let place = line.dropFirst(shown(process.id).count).firstRange(of: status)
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
