// Ended processes, in the order they ended: which of them is forgotten next. Pure.

import DequeModule
import LinuxIO

struct EndedLedger {
    private struct Entry {
        let serial: UInt64
        let expiresAt: Instant
    }

    /// What the record of a process costs beside its output, in bytes; a guess.
    static let recordBytes = 1024

    private var entries: Deque<Entry> = []
    private var remembered: Set<UInt64> = []

    var count: Int { remembered.count }

    /// `expiresAt` is not before that of whoever ended earlier.
    mutating func add(_ serial: UInt64, expiresAt: Instant) {
        entries.append(Entry(serial: serial, expiresAt: expiresAt))
        remembered.insert(serial)
    }

    /// Was forgotten otherwise.
    mutating func remove(_ serial: UInt64) {
        remembered.remove(serial)
        if entries.count > 2 * remembered.count + 64 {
            entries.removeAll { !remembered.contains($0.serial) }
        }
    }

    /// When the oldest one expires.
    mutating func nextExpiry() -> Instant? {
        dropForgotten()
        return entries.first?.expiresAt
    }

    /// Takes the oldest one where it has expired.
    mutating func popExpired(at now: Instant) -> UInt64? {
        guard let expiry = nextExpiry(), expiry <= now else { return nil }
        return popOldest()
    }

    /// Takes the oldest one, to make room.
    mutating func popOldest() -> UInt64? {
        dropForgotten()
        guard let entry = entries.popFirst() else { return nil }
        remembered.remove(entry.serial)
        return entry.serial
    }

    private mutating func dropForgotten() {
        while let first = entries.first, !remembered.contains(first.serial) {
            entries.removeFirst()
        }
    }
}
