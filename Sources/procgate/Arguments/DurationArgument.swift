// A length of time as it is written on the command line: `250ms`, `5s`, `2m`, `1h`.

import ArgumentParser

/// A whole number and its unit: `ms`, `s`, `m` or `h`.
struct DurationArgument: ExpressibleByArgument, Equatable, Sendable, CustomStringConvertible {
    /// In milliseconds, which is what the contract counts in.
    let milliseconds: UInt64

    var duration: Duration { .milliseconds(Int64(milliseconds)) }

    init(milliseconds: UInt64) {
        self.milliseconds = milliseconds
    }

    /// `nil` where the unit is missing or unknown, or where the time exceeds a hundred years.
    init?(argument: String) {
        let units: [(suffix: String, milliseconds: UInt64)] = [
            ("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000),
        ]
        guard let unit = units.first(where: { argument.hasSuffix($0.suffix) }),
            let scaled = scaledNumber(argument.dropLast(unit.suffix.count), by: unit.milliseconds),
            scaled <= 100 * 366 * 24 * 3_600_000
        else { return nil }
        milliseconds = scaled
    }

    /// In the largest unit that divides it: what `init(argument:)` reads back.
    var description: String {
        switch milliseconds {
        case 0: "0s"
        case let ms where ms % 3_600_000 == 0: "\(ms / 3_600_000)h"
        case let ms where ms % 60_000 == 0: "\(ms / 60_000)m"
        case let ms where ms % 1000 == 0: "\(ms / 1000)s"
        default: "\(milliseconds)ms"
        }
    }

    var defaultValueDescription: String { description }
}

/// Digits alone, multiplied; `nil` where there is anything else, or too much of it.
func scaledNumber(_ digits: Substring, by factor: UInt64) -> UInt64? {
    guard !digits.isEmpty, digits.utf8.allSatisfy({ (48...57).contains($0) }),
        let number = UInt64(digits)
    else { return nil }
    let (scaled, overflow) = number.multipliedReportingOverflow(by: factor)
    return overflow ? nil : scaled
}
