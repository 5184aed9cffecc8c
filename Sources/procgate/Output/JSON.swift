// JSON, written. Reads none, and knows nothing of processes.

enum JSON: Equatable {
    case null
    case bool(Bool)
    case number(Int64)
    case string(String)
    case array([JSON])
    /// In this order.
    case object([(String, JSON)])

    static func == (left: JSON, right: JSON) -> Bool { left.text == right.text }

    /// On one line.
    var text: String {
        var text = ""
        write(to: &text, indent: nil)
        return text
    }

    /// For people: indented by two spaces.
    var indented: String {
        var text = ""
        write(to: &text, indent: 0)
        return text
    }

    private func write(to text: inout String, indent: Int?) {
        switch self {
        case .null: text += "null"
        case .bool(let value): text += value ? "true" : "false"
        case .number(let value): text += String(value)
        case .string(let value): Self.quote(value, to: &text)
        case .array(let values):
            Self.list(values.map { ("", $0) }, "[", "]", hasKeys: false, to: &text, indent)
        case .object(let members):
            Self.list(members, "{", "}", hasKeys: true, to: &text, indent)
        }
    }

    private static func list(
        _ members: [(String, JSON)], _ open: String, _ close: String, hasKeys: Bool,
        to text: inout String, _ indent: Int?
    ) {
        guard !members.isEmpty else {
            text += open + close
            return
        }
        let inner = indent.map { $0 + 2 }
        text += open
        for (index, member) in members.enumerated() {
            if index > 0 { text += "," }
            if let inner { text += "\n" + String(repeating: " ", count: inner) }
            if hasKeys {
                quote(member.0, to: &text)
                text += indent == nil ? ":" : ": "
            }
            member.1.write(to: &text, indent: inner)
        }
        if let indent { text += "\n" + String(repeating: " ", count: indent) }
        text += close
    }

    private static func quote(_ value: String, to text: inout String) {
        text += "\""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\"": text += "\\\""
            case "\\": text += "\\\\"
            case "\n": text += "\\n"
            case "\r": text += "\\r"
            case "\t": text += "\\t"
            case _ where scalar.value < 0x20 || scalar.value == 0x7F:
                let digits = String(scalar.value, radix: 16)
                text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: text.unicodeScalars.append(scalar)
            }
        }
        text += "\""
    }
}

/// RFC 4648, with padding.
func base64(_ bytes: [UInt8]) -> String {
    let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    var text: [UInt8] = []
    text.reserveCapacity((bytes.count + 2) / 3 * 4)
    for start in stride(from: 0, to: bytes.count, by: 3) {
        let group = bytes[start..<min(start + 3, bytes.count)]
        let word = group.reduce(0) { $0 << 8 | UInt32($1) } << (8 * UInt32(3 - group.count))
        for place in 0..<4 {
            let isPadding = place > group.count
            text.append(isPadding ? 0x3D : alphabet[Int(word >> (18 - 6 * UInt32(place)) & 63)])
        }
    }
    return String(decoding: text, as: UTF8.self)
}
