// The token by which a gateway knows its caller: given as text, or in a file.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif

package enum CallerToken {
    /// More than anybody's tokens.
    private static let largestFileBytes = 64 << 10

    /// The token that a caller gave; `nil` where the caller gave none.
    /// - Parameter file: Read where there is no `text`.
    package static func value(
        _ text: String?, file: String?
    ) throws(SandboxError) -> String? {
        var token = text.flatMap(trimmed)
        if token == nil, let file { token = try firstToken(inFile: file) }
        guard let token else { return nil }
        // What HTTP/2 carries in a field, and what gateways take.
        guard token.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
            throw SandboxError(
                .tokenInvalid,
                "the token has characters that no token has: it is printable ASCII")
        }
        return token
    }

    /// `text` without the white space around it; `nil` where nothing is left.
    package static func trimmed(_ text: String) -> String? {
        let start = text.drop(while: \.isWhitespace)
        guard let last = start.lastIndex(where: { !$0.isWhitespace }) else { return nil }
        return String(start[...last])
    }

    /// The token of the first line that has one: a line is `TOKEN` or `NAME TOKEN`.
    package static func first(in text: String) -> String? {
        for line in text.split(whereSeparator: \.isNewline) where !line.hasPrefix("#") {
            if let token = line.split(whereSeparator: \.isWhitespace).last { return String(token) }
        }
        return nil
    }

    private static func firstToken(inFile path: String) throws(SandboxError) -> String {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw unreadable(path, errno) }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: largestFileBytes)
        let count = bytes.withUnsafeMutableBytes { room in
            readBytes(descriptor, room)
        }
        guard count >= 0 else { throw unreadable(path, errno) }
        guard let token = first(in: String(decoding: bytes[..<count], as: UTF8.self)) else {
            throw SandboxError(
                .tokenInvalid, "there is no token in \(path): a line is TOKEN or NAME TOKEN")
        }
        return token
    }

    /// Until the end of the file, or of the room.
    private static func readBytes(
        _ descriptor: Int32, _ room: UnsafeMutableRawBufferPointer
    ) -> Int {
        var filled = 0
        while filled < room.count {
            let rest = UnsafeMutableRawBufferPointer(rebasing: room[filled...])
            let count = read(descriptor, rest.baseAddress, rest.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return count < 0 ? count : filled }
            filled += count
        }
        return filled
    }

    private static func unreadable(_ path: String, _ code: Int32) -> SandboxError {
        SandboxError(
            .tokenInvalid,
            "cannot read the token file \(path): \(String(cString: strerror(code)))")
    }
}
