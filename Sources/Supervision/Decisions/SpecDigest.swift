// Whether two requests ask for the same process. Knows the spec's fields, not their
// encoding: maps are compared whatever their order.

import ProcgateV1

/// 128 bits over everything that makes a process, its input apart: a repeat need not bring
/// that once more. Keyed by a secret of this process, so
/// that nobody can craft two requests with one digest.
struct SpecDigest: Equatable {
    private let first: Int
    private let second: Int

    init(_ spec: ProcessSpec) {
        var hashers = (Hasher(), Hasher())
        hashers.0.combine(1)
        hashers.1.combine(2)
        Self.feed(&hashers.0, spec)
        Self.feed(&hashers.1, spec)
        first = hashers.0.finalize()
        second = hashers.1.finalize()
    }

    private static func feed(_ hasher: inout Hasher, _ spec: ProcessSpec) {
        hasher.combine(bytesOf: spec.command)
        hasher.combine(spec.args.count)
        for argument in spec.args { hasher.combine(bytesOf: argument) }
        hasher.combine(bytesOf: spec.cwd)
        hasher.combine(entriesOf: spec.env)
        hasher.combine(spec.timeoutMs)
        hasher.combine(bytesOf: spec.runAs)
        hasher.combine(spec.terminal?.columns)
        hasher.combine(spec.terminal?.rows)
        hasher.combine(entriesOf: spec.labels)
        hasher.combine(spec.limits?.memoryBytes ?? 0)
        hasher.combine(spec.limits?.cpuMillis ?? 0)
        hasher.combine(spec.limits?.maxProcesses ?? 0)
        hasher.combine(spec.shell)
        hasher.combine(spec.clearEnv)
        hasher.combine(spec.graceMs)
        hasher.combine(spec.queueTimeoutMs)
        hasher.combine(spec.output?.retainBytes ?? 0)
        hasher.combine(spec.output?.holdWhenFull ?? false)
        hasher.combine(spec.killDescendants)
        hasher.combine(spec.allowNewPrivileges)
    }
}

extension Hasher {
    /// Texts differ where their bytes do: an argument names a file by its bytes.
    fileprivate mutating func combine(bytesOf text: String) {
        var text = text
        combine(text.utf8.count)
        text.withUTF8 { combine(bytes: UnsafeRawBufferPointer($0)) }
    }

    /// Whatever their order.
    fileprivate mutating func combine(entriesOf map: [String: String]) {
        var sum = 0
        for (key, value) in map {
            var entry = Hasher()
            entry.combine(bytesOf: key)
            entry.combine(bytesOf: value)
            sum &+= entry.finalize()
        }
        combine(map.count)
        combine(sum)
    }
}

/// What a process reads.
public enum StdinSource: Equatable, Sendable {
    /// A pipe for later writes.
    case pipe
    /// /dev/null.
    case null
    /// These bytes, then the end.
    case bytes([UInt8])
}
