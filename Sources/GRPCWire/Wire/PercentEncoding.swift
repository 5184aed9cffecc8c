// `grpc-message`: UTF-8 of which all but printable ASCII, and '%', is percent-encoded.

enum PercentEncoding {
    private static let digits = Array("0123456789ABCDEF".utf8)

    /// At most `limitBytes` long: cut after a whole character of Unicode.
    static func encode(_ text: String, limitBytes: Int = .max) -> String {
        if text.utf8.count <= limitBytes, text.utf8.allSatisfy(isPlain) { return text }
        var bytes: [UInt8] = []
        var wholeCount = 0
        for scalar in text.unicodeScalars {
            for byte in scalar.utf8 {
                if isPlain(byte) {
                    bytes.append(byte)
                } else {
                    bytes.append(UInt8(ascii: "%"))
                    bytes.append(digits[Int(byte >> 4)])
                    bytes.append(digits[Int(byte & 15)])
                }
            }
            guard bytes.count <= limitBytes else { break }
            wholeCount = bytes.count
        }
        return String(decoding: bytes.prefix(wholeCount), as: UTF8.self)
    }

    /// Whatever is not a proper escape stands for itself; invalid UTF-8 is repaired.
    static func decode(_ text: UnsafeRawBufferPointer) -> String {
        guard text.contains(UInt8(ascii: "%")) else { return String(decoding: text, as: UTF8.self) }
        var bytes: [UInt8] = []
        var index = 0
        while index < text.count {
            if text[index] == UInt8(ascii: "%"), index + 2 < text.count,
                let high = value(text[index + 1]), let low = value(text[index + 2])
            {
                bytes.append(high << 4 | low)
                index += 3
            } else {
                bytes.append(text[index])
                index += 1
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func isPlain(_ byte: UInt8) -> Bool {
        byte >= 0x20 && byte <= 0x7e && byte != UInt8(ascii: "%")
    }

    private static func value(_ digit: UInt8) -> UInt8? {
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}
