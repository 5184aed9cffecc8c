// Rows of cells under their headings. Knows widths; not what stands in the cells.

/// The last column takes what the others leave. A line that is too long is cut, so it is the last
/// column that goes first.
struct Table {
    let headings: [String]
    private(set) var rows: [[String]] = []

    init(_ headings: [String]) {
        self.headings = headings
    }

    mutating func append(_ row: [String]) {
        rows.append(row)
    }

    /// The lines, headings first.
    /// - Parameter width: Of the terminal; `nil` is no limit.
    func lines(width: Int?) -> [String] {
        let all = [headings] + rows
        let widths = headings.indices.map { column in
            all.map { displayWidth($0[column]) }.max() ?? 0
        }
        return all.map { Self.line($0, widths, width: width) }
    }

    /// One row, in columns of these widths, two spaces apart.
    static func line(_ row: [String], _ widths: [Int], width: Int?) -> String {
        var line = ""
        for (cell, columnWidth) in zip(row.dropLast(), widths) {
            let padding = max(0, columnWidth - displayWidth(cell)) + 2
            line += cell + String(repeating: " ", count: padding)
        }
        line += row.last ?? ""
        while line.last == " " { line.removeLast() }
        guard let width else { return line }
        return cut(line, to: width)
    }

    /// `text`, or its beginning and an ellipsis.
    static func cut(_ text: String, to width: Int) -> String {
        guard displayWidth(text) > width else { return text }
        var result = ""
        var used = 1
        for character in text {
            used += displayWidth(String(character))
            if used > width { break }
            result.append(character)
        }
        return result + "…"
    }
}

/// Columns that a terminal gives the text: two for the wide characters of East Asia and for emoji,
/// none for what joins the character before. Where terminals differ it is the most that one gives.
func displayWidth(_ text: String) -> Int {
    text.reduce(0) { width, character in
        let scalars = character.unicodeScalars
        let columns = scalars.reduce(0) { $0 + columnCount($1) }
        // Asks for the emoji of a character that has both forms.
        let isEmoji = scalars.contains { $0.value == 0xFE0F }
        return width + (isEmoji ? max(2, columns) : columns)
    }
}

private func columnCount(_ scalar: Unicode.Scalar) -> Int {
    guard scalar.value >= 0x300 else { return 1 }
    // Vowels and finals of Hangul stand in the syllable before.
    if (0x1160...0x11FF).contains(scalar.value) { return 0 }
    switch scalar.properties.generalCategory {
    case .nonspacingMark, .enclosingMark, .format: return 0
    default: return isWide(scalar) ? 2 : 1
    }
}

private func isWide(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0x1100...0x115F, 0x2E80...0x303E, 0x3041...0xA4CF, 0xAC00...0xD7A3, 0xF900...0xFAFF,
        0xFE30...0xFE6F, 0xFF00...0xFF60, 0xFFE0...0xFFE6, 0x16FE0...0x18DFF, 0x1AFF0...0x1B2FF,
        0x1F300...0x1F64F, 0x1F900...0x1F9FF, 0x20000...0x3FFFD:
        true
    default: scalar.properties.isEmojiPresentation
    }
}

/// On one line, without what would move the cursor or turn the writing round.
func printable(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\n": result += "⏎"
        case "\t": result += " "
        case _ where scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value): result += "?"
        case "\u{200E}", "\u{200F}", "\u{2028}"..."\u{202E}", "\u{2066}"..."\u{2069}":
            result += "?"
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result
}
