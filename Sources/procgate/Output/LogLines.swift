// Output cut into lines. Knows chunks and numbers of lines; prints nothing.

import ProcgateClient

/// What one chunk has of a line, with the line's end where it is there.
struct LinePart: Equatable {
    let stream: OutputStream
    let bytes: ArraySlice<UInt8>
    /// Of the line, counted over both streams in the order in which lines begin, from 1.
    let line: Int
    let startsLine: Bool
    let timestamp: UnixMilliseconds
}

struct LineSplitter {
    private static let newline: UInt8 = 0x0A

    private var lineCount = 0
    /// The lines that have begun and not ended.
    private var open: [OutputStream: Int] = [:]

    mutating func parts(
        of bytes: [UInt8], _ stream: OutputStream, at timestamp: UnixMilliseconds
    ) -> [LinePart] {
        var parts: [LinePart] = []
        var rest = bytes[...]
        while !rest.isEmpty {
            let end = rest.firstIndex(of: Self.newline).map { $0 + 1 }
            let piece = rest[..<(end ?? rest.endIndex)]
            rest = rest[piece.endIndex...]
            let known = open[stream]
            if known == nil { lineCount += 1 }
            let line = known ?? lineCount
            open[stream] = end == nil ? line : nil
            parts.append(
                LinePart(
                    stream: stream, bytes: piece, line: line, startsLine: known == nil,
                    timestamp: timestamp))
        }
        return parts
    }

    /// Output is missing: the ends of the lines that were open may be among it.
    mutating func skip() {
        open = [:]
    }
}

/// The items that belong to the last lines. Keeps no more than those, and as many that are older.
struct LineTail<Item> {
    private let limit: Int
    private var items: [(item: Item, line: Int)] = []
    /// Before it there is nothing that is wanted.
    private var start = 0
    private var lineCount = 0

    init(limit: Int) {
        self.limit = limit
    }

    /// - Parameter line: The last line that the item has a part of.
    mutating func append(_ item: Item, line: Int) {
        items.append((item, line))
        lineCount = max(lineCount, line)
        while start < items.count, !isWanted(items[start].line) { start += 1 }
        if start > items.count / 2 {
            items.removeFirst(start)
            start = 0
        }
    }

    var kept: [Item] {
        items[start...].filter { isWanted($0.line) }.map(\.item)
    }

    private func isWanted(_ line: Int) -> Bool { line > lineCount - limit }
}
