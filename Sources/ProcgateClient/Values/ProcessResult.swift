// How a process ended, with the output that came along.

internal import ProcgateV1

/// How a process ended: by any exit code, by a signal, by its timeout, or because it could not
/// be run at all, which ``status`` tells apart.
@dynamicMemberLookup
public struct ProcessResult: Sendable, Hashable {
    /// The process as it stood at its end; its properties are this value's too:
    /// `result.exitCode`, `result.status`, `result.endedAt`.
    public var process: ProcessSummary
    /// Exactly what was written. From `exec`: all of it. From `wait`: what is retained. In an
    /// ``OutputEvent/exit(_:)``: empty, as its bytes came before it.
    public var stdoutBytes: [UInt8]
    /// As ``stdoutBytes``; empty where the process had a terminal.
    public var stderrBytes: [UInt8]
    /// Whether either lacks bytes that the process wrote.
    public var outputTruncated: Bool
    /// The number of the last chunk of output; 0 where there was none.
    public var lastSeq: UInt64

    /// ``stdoutBytes`` as text, decoded at each use; what is not UTF-8 becomes U+FFFD.
    public var stdout: String { String(decoding: stdoutBytes, as: UTF8.self) }

    /// ``stderrBytes`` as text, decoded at each use; what is not UTF-8 becomes U+FFFD.
    public var stderr: String { String(decoding: stderrBytes, as: UTF8.self) }

    /// The id of the process.
    public var id: String { process.id }
    /// How it ended.
    public var status: ProcessStatus { process.status }
    /// `nil` where it did not end by itself.
    public var exitCode: Int? { process.exitCode }
    /// The signal that ended it.
    public var signal: Signal? { process.signal }

    /// Whether it ended by itself, with exit code 0.
    public var succeeded: Bool { status == .exited && exitCode == 0 }

    /// From its start to its end; `nil` where it never ran.
    public var duration: Duration? {
        guard let started = process.startedAt, let ended = process.endedAt else { return nil }
        return Duration.milliseconds(ended) - Duration.milliseconds(started)
    }

    /// The properties of ``process``.
    public subscript<Value>(dynamicMember path: KeyPath<ProcessSummary, Value>) -> Value {
        process[keyPath: path]
    }

    /// Throws where nobody can tell how the process ended.
    func checkIsKnown() throws(SandboxError) {
        guard process.terminationReason == .lost else { return }
        throw SandboxError(
            .processLost,
            "how the command ended is not known, since its supervisor ended before it: look at what "
                + "the command should have done before you run it again",
            processID: id)
    }

    init?(_ wire: ProcgateV1.ProcessResult) {
        guard let process = wire.process.flatMap(ProcessSummary.init) else { return nil }
        self.process = process
        stdoutBytes = wire.stdoutData
        stderrBytes = wire.stderrData
        outputTruncated = wire.outputTruncated
        lastSeq = wire.lastSeq
    }
}
