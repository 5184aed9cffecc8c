// Lines on their way to a descriptor, in memory and bounded. Decides which lines are kept, which
// are dropped, and how many bytes go into one write; knows neither a thread nor a descriptor.

/// Lines that have not been handed to the writer.
struct LineQueue {
    /// Whole lines, each with its newline.
    private(set) var bytes: [UInt8] = []
    /// Lines dropped since the last `take`.
    private(set) var dropped = 0
    private let limitBytes: Int

    init(limitBytes: Int) {
        self.limitBytes = limitBytes
    }

    /// Appends `line` and a newline. False: the line is dropped, because the queue is full.
    ///
    /// Once a line is dropped, all lines are dropped until the next `take`: the gap is in one
    /// place, and a notice behind the lines of that `take` stands exactly there.
    mutating func add(_ line: String) -> Bool {
        var line = line
        return line.withUTF8 { text in
            let fits = bytes.isEmpty || bytes.count + text.count < limitBytes
            guard dropped == 0, fits else {
                dropped += 1
                return false
            }
            bytes.append(contentsOf: text)
            bytes.append(Self.newline)
            return true
        }
    }

    /// Counts lines that were taken and could not be written.
    mutating func addDropped(_ count: Int) {
        dropped += count
    }

    /// Moves the lines into `buffer`, whose memory is used for the next lines.
    ///
    /// - Returns: How many lines were dropped behind them.
    mutating func take(into buffer: inout [UInt8]) -> Int {
        buffer.removeAll(keepingCapacity: buffer.capacity <= Self.keptBytes)
        swap(&bytes, &buffer)
        defer { dropped = 0 }
        return dropped
    }

    static let newline = UInt8(ascii: "\n")
    /// Memory that stays with an empty buffer.
    private static let keptBytes = 64 << 10
}

/// How lines are cut for writing, and what is left of them where that failed.
enum LinePieces {
    /// The bytes of the next write: as many whole lines as fit into `limit`, which a pipe takes
    /// without mixing them with what others write; at least one line, or what is left of it.
    static func count(of rest: ArraySlice<UInt8>, limit: Int) -> Int {
        if rest.count <= limit { return rest.count }
        if let last = rest.prefix(limit).lastIndex(of: LineQueue.newline) {
            return last + 1 - rest.startIndex
        }
        return lineCount(of: rest)
    }

    /// The bytes of the first line, with its newline.
    static func lineCount(of rest: ArraySlice<UInt8>) -> Int {
        guard let end = rest.firstIndex(of: LineQueue.newline) else { return rest.count }
        return end + 1 - rest.startIndex
    }

    /// How many lines there are.
    static func lines(in bytes: ArraySlice<UInt8>) -> Int {
        bytes.reduce(0) { $1 == LineQueue.newline ? $0 + 1 : $0 }
    }
}
