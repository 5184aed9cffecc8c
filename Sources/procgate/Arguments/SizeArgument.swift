// A number of bytes as it is written on the command line: `64KiB`, `4MiB`, `1GiB`.

import ArgumentParser

/// A whole number and its unit: `KiB`, `MiB`, `GiB`, `TiB`, or `B`, which may be left out.
struct SizeArgument: ExpressibleByArgument, Equatable, Sendable, CustomStringConvertible {
    let bytes: UInt64

    init(bytes: UInt64) {
        self.bytes = bytes
    }

    /// `nil` where the unit is unknown, or where the size exceeds `Int64.max` bytes.
    init?(argument: String) {
        let unit = Self.units.first { argument.hasSuffix($0.suffix) } ?? (suffix: "", bytes: 1)
        guard let scaled = scaledNumber(argument.dropLast(unit.suffix.count), by: unit.bytes),
            scaled <= UInt64(Int64.max)
        else { return nil }
        bytes = scaled
    }

    /// In the largest unit that divides it: what `init(argument:)` reads back.
    var description: String {
        guard bytes > 0, let unit = Self.units.first(where: { bytes % $0.bytes == 0 }) else {
            return "0B"
        }
        return "\(bytes / unit.bytes)\(unit.suffix)"
    }

    var defaultValueDescription: String { description }

    private static let units: [(suffix: String, bytes: UInt64)] = [
        ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1),
    ]
}
