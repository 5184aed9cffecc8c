// `grpc-timeout`: one to eight digits and a unit.

enum TimeoutField {
    /// Nanoseconds, at most Int64.max; nil for what is not a timeout.
    static func parse(_ text: UnsafeRawBufferPointer) -> Int64? {
        guard text.count >= 2, text.count <= 9 else { return nil }
        var number: Int64 = 0
        for digit in text.dropLast() {
            guard digit >= UInt8(ascii: "0"), digit <= UInt8(ascii: "9") else { return nil }
            number = number * 10 + Int64(digit - UInt8(ascii: "0"))
        }
        let unit: Int64
        switch text[text.count - 1] {
        case UInt8(ascii: "n"): unit = 1
        case UInt8(ascii: "u"): unit = 1_000
        case UInt8(ascii: "m"): unit = 1_000_000
        case UInt8(ascii: "S"): unit = 1_000_000_000
        case UInt8(ascii: "M"): unit = 60_000_000_000
        case UInt8(ascii: "H"): unit = 3_600_000_000_000
        default: return nil
        }
        let (nanoseconds, overflow) = number.multipliedReportingOverflow(by: unit)
        return overflow ? .max : nanoseconds
    }

    /// The finest unit in which `nanoseconds` fits eight digits, rounded up.
    static func format(nanoseconds: Int64) -> String {
        let units: [(suffix: String, size: Int64)] = [
            ("n", 1), ("u", 1_000), ("m", 1_000_000), ("S", 1_000_000_000),
            ("M", 60_000_000_000), ("H", 3_600_000_000_000),
        ]
        let positive = max(nanoseconds, 1)
        for unit in units {
            let count = positive / unit.size + (positive % unit.size == 0 ? 0 : 1)
            if count <= 99_999_999 { return "\(count)\(unit.suffix)" }
        }
        return "99999999H"
    }
}
