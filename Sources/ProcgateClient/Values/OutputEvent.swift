// What a process does, as a reader sees it.

internal import ProcgateV1

/// One event of a process's output. The last is always ``exit(_:)``.
public enum OutputEvent: Sendable, Hashable {
    /// A chunk of its stdout, or of its terminal.
    case stdout(OutputChunk)
    /// A chunk of its stderr.
    case stderr(OutputChunk)
    /// The process has ended, and all of its output came before this.
    case exit(ProcessResult)
    /// Chunks that had been dropped; only where the reader allowed it.
    case gap(OutputGap)
}

/// One event of a command that is run: what comes before its output too. The last is always an
/// ``OutputEvent/exit(_:)``.
public enum CommandEvent: Sendable, Hashable {
    /// It waits for a place among the running.
    case queued(ProcessSummary)
    /// It runs.
    case started(ProcessSummary)
    /// Its output, or its exit.
    case output(OutputEvent)
}

/// What a process wrote at once to one of its streams.
public struct OutputChunk: Sendable, Hashable {
    /// 1, 2, 3, …: one sequence over both streams.
    public var seq: UInt64
    /// When the gateway's host read it.
    public var timestamp: UnixMilliseconds
    /// Exactly what was written.
    public var bytes: [UInt8]
    /// Bytes of a character that earlier chunks of the same stream left open.
    private var lead: [UInt8]
    /// Where in `bytes` the last complete character ends.
    private var textEnd: Int

    /// As text, decoded at each use. A character cut by the end of a chunk is in the next chunk's
    /// text; what is not UTF-8 becomes U+FFFD. Joined, the texts of a stream's chunks are its text, but
    /// for a character that its end cuts off.
    public var text: String {
        if lead.isEmpty && textEnd == bytes.count { return String(decoding: bytes, as: UTF8.self) }
        return String(decoding: lead + bytes[..<textEnd], as: UTF8.self)
    }

    init(_ wire: ProcgateV1.OutputChunk, cut: inout TextCut) {
        seq = wire.seq
        timestamp = wire.timestamp
        bytes = wire.data
        (lead, textEnd) = cut.next(wire.data)
    }
}

/// Chunks that were dropped before they were read: `fromSeq` to `toSeq`, both included.
public struct OutputGap: Sendable, Hashable {
    /// The first that is missing.
    public var fromSeq: UInt64
    /// The last that is missing.
    public var toSeq: UInt64
}

/// One of the two streams that a process writes to. A terminal's output is all stdout.
public enum OutputStream: String, Sendable, Hashable, CaseIterable {
    case stdout
    case stderr

    var wire: ProcgateV1.OutputStream {
        self == .stdout ? .stdout : .stderr
    }
}
