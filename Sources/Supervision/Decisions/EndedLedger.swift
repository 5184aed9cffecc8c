// Ended processes, in the order they ended: which of them is forgotten next. Pure.

import DequeModule
import LinuxIO

struct EndedLedger {
    private struct Entry: Equatable {
        let serial: UInt64
        let expiresAt: Instant
    }

    private var entries: Deque<Entry> = []
    /// Those whose output is kept, and some that are forgotten.
    private var withOutput: Deque<UInt64> = []
    /// Those that keep more output than they were asked to, and some that are forgotten; with the
    /// time until which they do.
    private var generous: Deque<Entry> = []
    /// With the bytes of each.
    private var remembered: [UInt64: Int] = [:]
    /// What their records cost together, beside their output.
    private(set) var recordBytes = 0

    var count: Int { remembered.count }

    /// `expiresAt` is not before that of any process that ended earlier; `nil`: the process is
    /// not forgotten until `expire` has said when. `bytes` is what its record costs.
    mutating func add(_ serial: UInt64, expiresAt: Instant?, bytes: Int) {
        if let expiresAt { entries.append(Entry(serial: serial, expiresAt: expiresAt)) }
        withOutput.append(serial)
        recordBytes += bytes - (remembered.updateValue(bytes, forKey: serial) ?? 0)
    }

    /// A process that was added without a time is forgotten at `deadline`, which is not before
    /// that of any other.
    mutating func expire(_ serial: UInt64, at deadline: Instant) {
        if remembered[serial] != nil { entries.append(Entry(serial: serial, expiresAt: deadline)) }
    }

    /// It keeps more output than it was asked to, until `deadline`, which is not before that of
    /// whoever did so earlier.
    mutating func keepsMore(_ serial: UInt64, until deadline: Instant) {
        generous.append(Entry(serial: serial, expiresAt: deadline))
    }

    /// When the first one that keeps more keeps no more.
    mutating func nextTrim() -> Instant? {
        first(in: \.generous)?.expiresAt
    }

    /// The oldest one that keeps more than it was asked to, where that is due: it is to be trimmed.
    mutating func popTrim(at now: Instant) -> UInt64? {
        guard let deadline = nextTrim(), deadline <= now else { return nil }
        return popOldestTrim()
    }

    /// The same before it is due, to make room.
    mutating func popOldestTrim() -> UInt64? {
        first(in: \.generous) == nil ? nil : generous.removeFirst().serial
    }

    /// Was forgotten otherwise.
    mutating func remove(_ serial: UInt64) {
        drop(serial)
        if entries.count > 2 * remembered.count + 64 {
            entries.removeAll { remembered[$0.serial] == nil }
        }
        if generous.count > 2 * remembered.count + 64 {
            generous.removeAll { remembered[$0.serial] == nil }
        }
        if withOutput.count > 2 * remembered.count + 64 {
            withOutput.removeAll { remembered[$0] == nil }
        }
    }

    private mutating func drop(_ serial: UInt64) {
        recordBytes -= remembered.removeValue(forKey: serial) ?? 0
    }

    /// When the oldest one expires.
    mutating func nextExpiry() -> Instant? {
        first(in: \.entries)?.expiresAt
    }

    /// Takes the oldest one where it has expired.
    mutating func popExpired(at now: Instant) -> UInt64? {
        guard let expiry = nextExpiry(), expiry <= now else { return nil }
        return popOldest()
    }

    /// Takes the oldest one, to make room.
    mutating func popOldest() -> UInt64? {
        guard let entry = first(in: \.entries) else { return nil }
        entries.removeFirst()
        drop(entry.serial)
        return entry.serial
    }

    /// The oldest one whose output was not given up yet: its output is to be, itself it stays.
    mutating func popOldestOutput() -> UInt64? {
        while let serial = withOutput.popFirst() {
            if remembered[serial] != nil { return serial }
        }
        return nil
    }

    /// The first that is not forgotten; those before it are dropped.
    private mutating func first(in line: WritableKeyPath<Self, Deque<Entry>>) -> Entry? {
        while let entry = self[keyPath: line].first {
            if remembered[entry.serial] != nil { return entry }
            self[keyPath: line].removeFirst()
        }
        return nil
    }
}
