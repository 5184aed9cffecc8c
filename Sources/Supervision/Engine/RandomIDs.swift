// Names that cannot be guessed, of processes and supervisors.

import CLinux

/// Ids of 128 bits from the kernel's random numbers, which are asked for many at a time.
struct RandomIDs {
    /// 256 bytes: the kernel gives so many without being interrupted.
    private static let batchCount = 16

    private var spare: [UInt128] = []

    /// 26 letters and digits.
    mutating func next() -> String {
        if spare.isEmpty { refill() }
        return Self.text(of: spare.removeLast())
    }

    private mutating func refill() {
        spare = [UInt128](repeating: 0, count: Self.batchCount)
        let status = spare.withUnsafeMutableBytes { clinux_random($0.baseAddress, $0.count) }
        // The call cannot fail for so few bytes once the host has booted.
        guard status == 0 else {
            var generator = SystemRandomNumberGenerator()
            spare = spare.map { _ in UInt128.random(in: 0 ... .max, using: &generator) }
            return
        }
    }

    private static func text(of bits: UInt128) -> String {
        String(unsafeUninitializedCapacity: 26) { text in
            for index in 0..<26 {
                // a to z, then 2 to 7.
                let digit = UInt8(truncatingIfNeeded: bits >> (5 * index)) & 31
                text[index] = digit < 26 ? 0x61 + digit : 0x32 + digit - 26
            }
            return 26
        }
    }
}
