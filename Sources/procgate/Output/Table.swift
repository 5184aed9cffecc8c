// Rows of cells under their headings. Knows widths; not what stands in the cells.

/// The last column takes what the others leave, and is cut where that is too little.
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
        let last = row.last ?? ""
        guard let width else { return line + last }
        return line + cut(last, to: max(4, width - displayWidth(line)))
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

/// Columns that a terminal gives the text: two for the wide characters of East Asia and for
/// emoji.
func displayWidth(_ text: String) -> Int {
    text.reduce(0) { width, character in
        guard let scalar = character.unicodeScalars.first else { return width }
        return width + (isWide(scalar) ? 2 : 1)
    }
}

private func isWide(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0x1100...0x115F, 0x2E80...0x303E, 0x3041...0xA4CF, 0xAC00...0xD7A3, 0xF900...0xFAFF,
        0xFE30...0xFE6F, 0xFF00...0xFF60, 0xFFE0...0xFFE6, 0x1F300...0x1F64F,
        0x1F900...0x1F9FF, 0x20000...0x3FFFD:
        true
    default: scalar.properties.isEmojiPresentation
    }
}

/// On one line, without what would move the cursor.
func printable(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\n": result += "⏎"
        case "\t": result += " "
        case _ where scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value): result += "?"
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result
}
