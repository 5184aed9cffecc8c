// A length of time as it is written on the command line: `250ms`, `1.5s`, `2m`, `1h`, `2d`.

import ArgumentParser

/// A number and its unit: `ms`, `s`, `m`, `h` or `d`.
struct DurationArgument: ExpressibleByArgument, Equatable, Sendable, CustomStringConvertible {
    /// In milliseconds, which is what the contract counts in.
    let milliseconds: UInt64

    var duration: Duration { .milliseconds(Int64(milliseconds)) }

    init(milliseconds: UInt64) {
        self.milliseconds = milliseconds
    }

    private static let units: [(suffix: String, milliseconds: UInt64)] = [
        ("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000),
    ]
    private static let longest: UInt64 = 100 * 366 * 86_400_000

    /// A fraction of a millisecond is rounded up. `nil` where the unit is missing or unknown, or
    /// where the time exceeds a hundred years.
    init?(argument: String) {
        guard let unit = Self.units.first(where: { argument.hasSuffix($0.suffix) }),
            let scaled = scaledDecimal(
                argument.dropLast(unit.suffix.count), by: unit.milliseconds),
            scaled <= Self.longest
        else { return nil }
        milliseconds = scaled
    }

    /// In the largest unit that divides it: what `init(argument:)` reads back.
    var description: String {
        let unit = Self.units.last { milliseconds % $0.milliseconds == 0 }
        guard milliseconds > 0, let unit else { return "0s" }
        return "\(milliseconds / unit.milliseconds)\(unit.suffix)"
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

/// Digits, and after a point at most nine more, multiplied and rounded up.
private func scaledDecimal(_ text: Substring, by factor: UInt64) -> UInt64? {
    guard let point = text.firstIndex(of: ".") else { return scaledNumber(text, by: factor) }
    let digits = text[text.index(after: point)...]
    guard digits.utf8.count <= 9, let whole = scaledNumber(text[..<point], by: factor),
        let fraction = scaledNumber(digits, by: factor)
    else { return nil }
    let divisor = digits.utf8.reduce(UInt64(1)) { power, _ in power * 10 }
    let (sum, overflow) = whole.addingReportingOverflow((fraction + divisor - 1) / divisor)
    return overflow ? nil : sum
}
