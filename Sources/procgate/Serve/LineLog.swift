// The log: a line for each event on standard error, for people or as JSON. A backend of
// swift-log without Foundation.

import ArgumentParser
import Glibc
import Logging

enum LogFormat: String, ExpressibleByArgument, CaseIterable {
    case text
    case json
}

struct LogLevelArgument: ExpressibleByArgument {
    let level: Logger.Level

    init(level: Logger.Level) {
        self.level = level
    }

    init?(argument: String) {
        guard let level = Logger.Level(rawValue: argument) else { return nil }
        self.level = level
    }

    var defaultValueDescription: String { level.rawValue }
    static let allValueStrings = Logger.Level.allCases.map(\.rawValue)
}

struct LineLog: LogHandler {
    var logLevel = Logger.Level.info
    var metadata: Logger.Metadata = [:]
    private let format: LogFormat
    private let writer: LineWriter

    /// A logger whose lines go to `writer`.
    static func logger(
        _ label: String, level: Logger.Level, format: LogFormat, writer: LineWriter
    ) -> Logger {
        var logger = Logger(label: label) { _ in LineLog(format: format, writer: writer) }
        logger.logLevel = level
        return logger
    }

    /// Writes to standard error, and says there in the same format how many lines it had to drop.
    static func standardErrorWriter(_ format: LogFormat) -> LineWriter {
        LineWriter(descriptor: STDERR_FILENO) { dropped in
            line(
                format, .warning, "log lines were dropped: standard error was not read in time",
                ["dropped": .stringConvertible(dropped)])
        }
    }

    private init(format: LogFormat, writer: LineWriter) {
        self.format = format
        self.writer = writer
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let fields = metadata.merging(event.metadata ?? [:]) { _, new in new }
        writer.add(Self.line(format, event.level, "\(event.message)", fields))
    }

    /// Of JSON's own: metadata of these names gets another one, so that no key comes twice.
    private static let reserved: Set<String> = ["time", "level", "message"]

    private static func line(
        _ format: LogFormat, _ level: Logger.Level, _ message: String, _ metadata: Logger.Metadata
    ) -> String {
        let fields = metadata.sorted { $0.key < $1.key }
        switch format {
        case .text:
            var line = "\(timestamp()) \(level.rawValue) \(plain(message))"
            for (key, value) in fields { line += " \(key)=\(word("\(value)"))" }
            return line
        case .json:
            var line = "{\"time\":\"\(timestamp())\",\"level\":\"\(level.rawValue)\""
            line += ",\"message\":\(quoted(message))"
            for (key, value) in fields {
                let name = reserved.contains(key) ? "field_" + key : key
                line += ",\(quoted(name)):\(json(value))"
            }
            return line + "}"
        }
    }

    /// Numbers and truth values as such, everything else as a string.
    private static func json(_ value: Logger.MetadataValue) -> String {
        guard case .stringConvertible(let value) = value else { return quoted("\(value)") }
        switch value {
        case let number as Double where number.isFinite: return "\(number)"
        case is any BinaryInteger, is Bool: return "\(value)"
        default: return quoted("\(value)")
        }
    }

    /// RFC 3339 with milliseconds, in UTC.
    private static func timestamp() -> String {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        var parts = tm()
        gmtime_r(&now.tv_sec, &parts)
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 32) { buffer in
            let count = strftime(buffer.baseAddress!, 32, "%Y-%m-%dT%H:%M:%S", &parts)
            let seconds = String(
                decoding: buffer.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
            let milliseconds = String(1_000 + now.tv_nsec / 1_000_000).dropFirst()
            return "\(seconds).\(milliseconds)Z"
        }
    }

    /// One line, whatever a caller put into it.
    private static func plain(_ text: String) -> String {
        String(
            text.unicodeScalars.map { $0.value < 0x20 || $0.value == 0x7F ? " " : Character($0) })
    }

    private static func word(_ text: String) -> String {
        let isPlain = text.utf8.allSatisfy { $0 > 0x20 && $0 != 0x22 && $0 < 0x7F }
        return isPlain && !text.isEmpty ? text : quoted(text)
    }

    /// A JSON string.
    private static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\r": result += "\\r"
            case "\t": result += "\\t"
            case _ where scalar.value < 0x20 || scalar.value == 0x7F:
                let hex = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}
