// procgate logs: a process's output, as far as it is retained.

import ArgumentParser
import Glibc
import ProcgateClient

struct Logs: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print the retained output of a process.",
        discussion: """
            Its stdout goes to standard output, its stderr to standard error. What is no longer \
            retained is skipped, with a line on standard error. With --json each event is a line: \
            {"output":…}, {"gap":…}, {"exited":…}.
            """)

    @OptionGroup var gateway: GatewayOptions

    @Flag(help: "Go on with what it prints, to its end.")
    var follow = false

    @Option(help: ArgumentHelp("The first chunk to print, from 1.", valueName: "n"))
    var fromSeq: UInt64 = 0

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Print the last lines alone, of both streams together. (default: all)",
            valueName: "lines"))
    var tail: Int?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Print only what was printed in that time before now, by this host's clock. "
                + "(default: all)", valueName: "duration"))
    var since: DurationArgument?

    @Flag(help: "Begin each line with the time at which the gateway's host read it, in UTC.")
    var timestamps = false

    @Argument(help: ProcessLookup.help)
    var id: String

    func validate() throws {
        guard tail.map({ $0 >= 0 }) ?? true else {
            throw ValidationError("--tail is a number of lines, 0 or more")
        }
    }

    func run() async throws {
        SignalSource.ignoreBrokenPipes()
        let begin = since.map { ProcessText.now - Int64($0.milliseconds) }
        try await gateway.withSandbox { sandbox in
            let process = try await ProcessLookup(sandbox).process(id)
            var printer = LogPrinter(json: gateway.json, hasTimestamps: timestamps, since: begin)
            var next = fromSeq
            if let tail {
                let retained = process.stream(fromSeq: next, follow: false, allowGaps: true)
                let (last, hasEnded) = try await printer.printTail(of: retained, lines: tail)
                guard follow, !hasEnded else { return }
                next = max(next, last + 1)
            }
            let events = process.stream(fromSeq: next, follow: follow, allowGaps: true)
            for try await event in events { try await printer.print(event) }
        }
    }
}

/// Prints events, or the lines that they are made of.
private struct LogPrinter {
    private let printer: EventPrinter
    private let json: Bool
    private let hasTimestamps: Bool
    /// What is older is left out.
    private let since: UnixMilliseconds?
    private var splitter = LineSplitter()

    init(json: Bool, hasTimestamps: Bool, since: UnixMilliseconds?) {
        printer = EventPrinter(json: json)
        self.json = json
        self.hasTimestamps = hasTimestamps
        self.since = since
    }

    mutating func print(_ event: OutputEvent) async throws {
        guard !isTooOld(event) else { return }
        guard hasTimestamps, !json, let parts = parts(of: event) else {
            return try await printer.print(event)
        }
        try await print(parts)
    }

    /// Prints the last lines of events that end soon.
    /// - Returns: The number of the last chunk, and whether the process has ended.
    mutating func printTail(
        of events: OutputEvents, lines: Int
    ) async throws -> (lastSeq: UInt64, hasEnded: Bool) {
        var tail = LineTail<OutputEvent>(limit: lines)
        var textTail = LineTail<LinePart>(limit: lines)
        var lastSeq: UInt64 = 0
        var exit: OutputEvent?
        for try await event in events {
            lastSeq = max(lastSeq, event.lastSeq ?? 0)
            if case .exit = event { exit = event }
            guard !isTooOld(event), let parts = parts(of: event), let last = parts.last else {
                continue
            }
            if json {
                tail.append(event, line: last.line)
            } else {
                for part in parts { textTail.append(part, line: part.line) }
            }
        }
        try await print(textTail.kept)
        for event in tail.kept { try await printer.print(event) }
        if let exit { try await printer.print(exit) }
        return (lastSeq, exit != nil)
    }

    /// `nil` for an event without output.
    private mutating func parts(of event: OutputEvent) -> [LinePart]? {
        switch event {
        case .stdout(let chunk):
            return splitter.parts(of: chunk.bytes, .stdout, at: chunk.timestamp)
        case .stderr(let chunk):
            return splitter.parts(of: chunk.bytes, .stderr, at: chunk.timestamp)
        case .gap:
            splitter.skip()
            return nil
        case .exit: return nil
        }
    }

    private func isTooOld(_ event: OutputEvent) -> Bool {
        guard let since else { return false }
        switch event {
        case .stdout(let chunk), .stderr(let chunk): return chunk.timestamp < since
        case .gap: return true
        case .exit: return false
        }
    }

    /// Neighbours of the same stream are written at once.
    private func print(_ parts: [LinePart]) async throws {
        var rest = parts[...]
        while let first = rest.first {
            let run = rest.prefix { $0.stream == first.stream }
            rest = rest.dropFirst(run.count)
            var bytes: [UInt8] = []
            for part in run {
                if hasTimestamps, part.startsLine {
                    bytes += Array("\(ProcessText.timestamp(part.timestamp)) ".utf8)
                }
                bytes += part.bytes
            }
            try await Output.write(
                bytes, to: first.stream == .stdout ? STDOUT_FILENO : STDERR_FILENO)
        }
    }
}

extension OutputEvent {
    /// The number of the last chunk that it tells of.
    fileprivate var lastSeq: UInt64? {
        switch self {
        case .stdout(let chunk), .stderr(let chunk): chunk.seq
        case .gap(let gap): gap.toSeq
        case .exit: nil
        }
    }
}
