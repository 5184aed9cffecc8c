// UTF-8 that arrives in pieces. Knows bytes alone, nothing of processes.

/// The bytes at the end of a piece that begin a character which the next piece may complete.
struct TextCut: Sendable {
    /// At most three: what the pieces so far have left open.
    private(set) var open: [UInt8] = []

    /// Where the text of the next piece ends, and what of earlier pieces comes before it.
    ///
    /// Joined over all pieces, `String(decoding: lead + piece[..<end])` is what decoding the whole
    /// at once gives, but for a character that the last piece leaves open.
    mutating func next(_ piece: [UInt8]) -> (lead: [UInt8], end: Int) {
        if piece.isEmpty { return ([], 0) }
        let last = piece.count < 4 ? open + piece : Array(piece.suffix(4))
        let left = Self.openSuffix(of: last)
        if left > piece.count {
            open = last
            return ([], 0)
        }
        defer { open = Array(piece.suffix(left)) }
        return (open, piece.count - left)
    }

    /// How many of the last bytes, at most three, are the beginning of a well-formed character.
    static func openSuffix(of bytes: [UInt8]) -> Int {
        for length in 1...3 where length <= bytes.count {
            let first = bytes[bytes.count - length]
            if first & 0xC0 == 0x80 { continue }
            guard let whole = characterLength(first), whole > length else { return 0 }
            if length == 1 { return 1 }
            let second = bytes[bytes.count - length + 1]
            return secondByteRange(first).contains(second) ? length : 0
        }
        return 0
    }

    private static func characterLength(_ first: UInt8) -> Int? {
        switch first {
        case 0xC2...0xDF: 2
        case 0xE0...0xEF: 3
        case 0xF0...0xF4: 4
        default: nil
        }
    }

    /// The Unicode Standard, table 3-7: what is outside is not the beginning of anything.
    private static func secondByteRange(_ first: UInt8) -> ClosedRange<UInt8> {
        switch first {
        case 0xE0: 0xA0...0xBF
        case 0xED: 0x80...0x9F
        case 0xF0: 0x90...0xBF
        case 0xF4: 0x80...0x8F
        default: 0x80...0xBF
        }
    }
}
