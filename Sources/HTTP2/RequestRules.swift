// What makes a request's fields well formed (RFC 9113, section 8), for listeners where the codec
// does not check it: it refuses an `:authority` that is a path, which peers of unix sockets send.
// Decides only; knows no stream.

/// The rules for the header blocks of requests, field by field. One block at a time.
struct RequestRules {
    enum Verdict {
        case keep
        /// The field is not well formed, and is passed over as the codec does.
        case ignore
        /// The request is malformed: a stream error.
        case refuse
    }

    private struct Pseudo: OptionSet {
        let rawValue: UInt8
        static let method = Pseudo(rawValue: 1)
        static let scheme = Pseudo(rawValue: 2)
        static let path = Pseudo(rawValue: 4)
        static let authority = Pseudo(rawValue: 8)
        static let required: Pseudo = [.method, .scheme, .path]
    }

    private var seen: Pseudo = []
    private var hasHost = false
    private var areTrailers = false
    private var pseudoFieldsAreOver = false
    /// The bytes of the body, where `content-length` says so.
    private(set) var contentLength: Int?

    mutating func begin(trailers: Bool) {
        self = RequestRules()
        areTrailers = trailers
    }

    /// Whether the block that was read has all that a request, or trailers, must have.
    func isComplete(endsStream: Bool) -> Bool {
        if areTrailers { return endsStream }
        guard seen.isSuperset(of: .required) else { return false }
        return seen.contains(.authority) || hasHost
    }

    mutating func check(
        name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer
    ) -> Verdict {
        guard let first = name.first else { return .refuse }
        if first == UInt8(ascii: ":") { return checkPseudo(name, value) }
        pseudoFieldsAreOver = true
        for byte in name where !Self.isNameByte(byte) {
            // Upper case is malformed; the codec passes over the rest.
            return byte >= 0x41 && byte <= 0x5a ? .refuse : .ignore
        }
        guard Self.isValue(value) else { return .ignore }
        return checkRegular(name, value)
    }

    private mutating func checkPseudo(
        _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer
    ) -> Verdict {
        guard !areTrailers, !pseudoFieldsAreOver, !value.isEmpty else { return .refuse }
        let field: Pseudo
        let isWellFormed: Bool
        if name.equals(":method") {
            field = .method
            isWellFormed = value.allSatisfy(Self.isTokenByte)
        } else if name.equals(":path") {
            field = .path
            isWellFormed =
                (value.first == UInt8(ascii: "/") || value.equals("*"))
                && value.allSatisfy(Self.isVisible)
        } else if name.equals(":scheme") {
            field = .scheme
            isWellFormed = value.allSatisfy(Self.isSchemeByte)
        } else if name.equals(":authority") {
            field = .authority
            // A host, or the path of a socket, percent-encoded or not.
            isWellFormed = value.allSatisfy(Self.isVisible)
        } else {
            return .refuse
        }
        guard isWellFormed, seen.insert(field).inserted else { return .refuse }
        return .keep
    }

    private mutating func checkRegular(
        _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer
    ) -> Verdict {
        switch name.count {
        case 2 where name.equals("te"):
            return Self.equalsIgnoringCase(value, "trailers") ? .keep : .refuse
        case 4 where name.equals("host"):
            guard !hasHost else { return .refuse }
            hasHost = true
        case 7 where name.equals("upgrade"), 10 where name.equals("connection"),
            10 where name.equals("keep-alive"), 16 where name.equals("proxy-connection"),
            17 where name.equals("transfer-encoding"):
            return .refuse
        case 14 where name.equals("content-length"):
            guard !areTrailers, contentLength == nil, let length = Self.number(value) else {
                return .refuse
            }
            contentLength = length
        default:
            break
        }
        return .keep
    }

    // MARK: Characters

    private static func number(_ digits: UnsafeRawBufferPointer) -> Int? {
        guard !digits.isEmpty, digits.count <= 18 else { return nil }
        var number = 0
        for digit in digits {
            guard digit >= 0x30, digit <= 0x39 else { return nil }
            number = number * 10 + Int(digit - 0x30)
        }
        return number
    }

    private static func equalsIgnoringCase(
        _ value: UnsafeRawBufferPointer, _ text: StaticString
    ) -> Bool {
        guard value.count == text.utf8CodeUnitCount else { return false }
        for index in 0..<value.count {
            let byte = value[index]
            let lower = byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte
            if lower != text.utf8Start[index] { return false }
        }
        return true
    }

    /// No controls but tabs within, and no space at either end.
    private static func isValue(_ value: UnsafeRawBufferPointer) -> Bool {
        if let first = value.first, first == 0x20 || first == 0x09 { return false }
        if let last = value.last, last == 0x20 || last == 0x09 { return false }
        return value.allSatisfy { $0 >= 0x20 && $0 != 0x7f || $0 == 0x09 }
    }

    private static func isVisible(_ byte: UInt8) -> Bool { byte > 0x20 && byte < 0x7f }

    private static func isLetter(_ byte: UInt8) -> Bool {
        byte | 0x20 >= 0x61 && byte | 0x20 <= 0x7a
    }

    private static func isDigit(_ byte: UInt8) -> Bool { byte >= 0x30 && byte <= 0x39 }

    private static func isSchemeByte(_ byte: UInt8) -> Bool {
        isLetter(byte) || isDigit(byte) || byte == UInt8(ascii: "+")
            || byte == UInt8(ascii: "-") || byte == UInt8(ascii: ".")
    }

    /// `tchar` of RFC 9110, section 5.6.2.
    private static func isTokenByte(_ byte: UInt8) -> Bool {
        if isLetter(byte) || isDigit(byte) { return true }
        switch byte {
        case UInt8(ascii: "!"), UInt8(ascii: "#"), UInt8(ascii: "$"), UInt8(ascii: "%"),
            UInt8(ascii: "&"), UInt8(ascii: "'"), UInt8(ascii: "*"), UInt8(ascii: "+"),
            UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "^"), UInt8(ascii: "_"),
            UInt8(ascii: "`"), UInt8(ascii: "|"), UInt8(ascii: "~"):
            return true
        default:
            return false
        }
    }

    private static func isNameByte(_ byte: UInt8) -> Bool {
        isTokenByte(byte) && !(byte >= 0x41 && byte <= 0x5a)
    }
}
