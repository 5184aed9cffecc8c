// Processes for people: a row of a table, and a page.

import Glibc
import ProcgateClient

/// Colour, where it is wanted: on a terminal, and without NO_COLOR.
struct Style {
    let isColoured: Bool

    static var output: Style {
        Style(isColoured: Terminal.isOutput && environment("NO_COLOR") == nil)
    }

    func status(_ status: ProcessStatus, _ text: String) -> String {
        guard isColoured else { return text }
        let colour =
            switch status {
            case .queued: 33
            case .running: 36
            case .exited: 32
            case .failed, .killed, .timedOut: 31
            }
        return "\u{1B}[\(colour)m\(text)\u{1B}[0m"
    }

    func heading(_ text: String) -> String {
        isColoured ? "\u{1B}[1m\(text)\u{1B}[0m" : text
    }
}

enum ProcessText {
    static let headings = ["ID", "STATUS", "RESULT", "AGE", "USER", "COMMAND"]

    /// - Parameter id: As it is to be shown.
    static func row(_ process: ProcessSummary, id: String, now: UnixMilliseconds) -> [String] {
        [
            id, process.status.rawValue, outcome(process) ?? "-",
            length(now - process.createdAt),
            process.runAs.isEmpty ? "-" : printable(process.runAs),
            printable(commandLine(process)),
        ]
    }

    /// As one would type it; what has spaces or quotes is quoted where there are arguments.
    static func commandLine(_ process: ProcessSummary) -> String {
        guard !process.arguments.isEmpty else { return process.command }
        return ([process.command] + process.arguments).map(quoted).joined(separator: " ")
    }

    static func quoted(_ word: String) -> String {
        let plain = { (character: Character) in
            character.isLetter || character.isNumber || "_-+=./:,@%".contains(character)
        }
        if !word.isEmpty && word.allSatisfy(plain) { return word }
        return "'" + word.replacing("'", with: "'\\''") + "'"
    }

    /// How it ended; `nil` while it has not.
    static func outcome(_ process: ProcessSummary) -> String? {
        if let code = process.exitCode { return "exit \(code)" }
        if let signal = process.signal { return signal.name }
        if let number = process.signalNumber { return "signal \(number)" }
        return process.error == nil ? nil : "error"
    }

    static func page(_ process: ProcessSummary, style: Style) -> [String] {
        let labels = process.labels.sorted { $0.key < $1.key }
            .map { "\($0.key)=\($0.value)" }.joined(separator: " ")
        var facts: [(String, String?)] = [
            ("id", process.id),
            ("status", style.status(process.status, process.status.rawValue)),
            ("command", printable(commandLine(process))),
            ("directory", printable(process.cwd)),
            ("user", printable(process.runAs)),
            ("labels", printable(labels)),
            ("pid", process.pid.map(String.init)),
            ("result", outcome(process)),
            ("error", process.error.map(printable)),
            ("reason", process.terminationReason?.rawValue),
            ("created", timestamp(process.createdAt)),
            ("started", process.startedAt.map(timestamp)),
            ("ended", process.endedAt.map(timestamp)),
            ("forgotten", process.expiresAt.map(timestamp)),
        ]
        if let usage = process.usage {
            facts.append(("cpu time", length(usage.cpuTime.milliseconds)))
            facts.append(("peak memory", size(usage.peakMemoryBytes)))
        }
        facts += [
            ("limits", process.limitsEnforced?.rawValue),
            ("stdout", size(process.stdoutByteCount)),
            ("stderr", size(process.stderrByteCount)),
            ("stdin", size(process.stdinByteCount) + (process.stdinClosed ? ", closed" : "")),
            (
                "output",
                process.lastSeq == 0
                    ? nil : "chunks \(process.firstRetainedSeq) to \(process.lastSeq)"
            ),
            ("descendants", process.descendantsAlive ? "alive when the command ended" : nil),
            ("owner", printable(process.owner)),
        ]
        return lines(facts)
    }

    static func page(_ info: GatewayInfo) -> [String] {
        lines([
            ("version", info.version),
            ("node", info.node),
            ("cordoned", info.isCordoned ? "yes" : nil),
            ("instance", info.instanceID),
            ("limits", info.limitsEnforced?.rawValue),
            ("max running", String(info.maxRunning)),
            ("max queued", String(info.maxQueued)),
            ("max message", size(info.maxMessageBytes)),
            ("retains", "\(size(info.retainBytes)), \(length(info.retainTime.milliseconds))"),
            ("keep-alive", length(info.keepAlive.milliseconds)),
        ])
    }

    /// What is empty is left out.
    private static func lines(_ facts: [(String, String?)]) -> [String] {
        let known = facts.compactMap { name, value in
            value.flatMap { $0.isEmpty ? nil : (name, $0) }
        }
        let width = known.map(\.0.count).max() ?? 0
        return known.map { name, value in
            name + String(repeating: " ", count: width - name.count + 2) + value
        }
    }

    /// "350ms", "12s", "4m", "3h", "12d": the largest unit that says something.
    static func length(_ milliseconds: Int64) -> String {
        let ms = max(0, milliseconds)
        switch ms {
        case ..<1000: return "\(ms)ms"
        case ..<120_000: return "\(ms / 1000)s"
        case ..<7_200_000: return "\(ms / 60_000)m"
        case ..<172_800_000: return "\(ms / 3_600_000)h"
        default: return "\(ms / 86_400_000)d"
        }
    }

    static func size(_ bytes: Int) -> String {
        let units = ["B", "KiB", "MiB", "GiB", "TiB"]
        var value = Double(bytes)
        var unit = 0
        while value >= 1024 && unit < units.count - 1 {
            value /= 1024
            unit += 1
        }
        if unit == 0 { return "\(bytes)B" }
        let tenths = Int((value * 10).rounded())
        return tenths % 10 == 0
            ? "\(tenths / 10)\(units[unit])" : "\(tenths / 10).\(tenths % 10)\(units[unit])"
    }

    /// In UTC, as RFC 3339 has it.
    static func timestamp(_ milliseconds: UnixMilliseconds) -> String {
        var seconds = time_t(milliseconds / 1000)
        var parts = tm()
        gmtime_r(&seconds, &parts)
        func two(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }
        let rest = String(1000 + milliseconds % 1000).dropFirst()
        return "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))T"
            + "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)).\(rest)Z"
    }

    static var now: UnixMilliseconds {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
    }
}
