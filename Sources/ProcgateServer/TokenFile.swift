// The tokens that may call, one a line: `TOKEN` or `NAME TOKEN`. A file that others can read is
// refused. Knows no call.

import Glibc
import Synchronization

/// Why a token file cannot be used: one line for who starts the gateway.
public struct TokenFileError: Error, CustomStringConvertible {
    public let description: String

    public init(_ description: String) {
        self.description = description
    }
}

/// Tokens and the names of those who hold them.
public struct TokenFile: Sendable {
    private struct Entry {
        let name: String
        let token: [UInt8]
    }

    /// Where it was read.
    let path: String
    private let entries: [Entry]

    private static let largestBytes = 1 << 20
    private static let tokenBytes = 32

    /// - Parameter text: a line for each token; empty lines and those that begin with `#` are
    ///   skipped. Words are parted by spaces and tabs; a byte order mark and CRLF are taken.
    init(parsing text: String, path: String) throws(TokenFileError) {
        var entries: [Entry] = []
        var scalars = text.unicodeScalars[...]
        if scalars.first == "\u{FEFF}" { scalars = scalars.dropFirst() }
        for line in scalars.split(whereSeparator: { $0 == "\n" || $0 == "\r" }) {
            let words = line.split { $0 == " " || $0 == "\t" }.map { String($0) }
            guard let first = words.first, !first.hasPrefix("#") else { continue }
            guard words.count <= 2 else {
                throw TokenFileError(
                    "\(path): a line is TOKEN or NAME TOKEN, not three words")
            }
            let name = words.count == 2 ? first : ""
            entries.append(Entry(name: name, token: Array(words[words.count - 1].utf8)))
        }
        guard !entries.isEmpty else {
            throw TokenFileError("\(path): there is no token in it")
        }
        self.path = path
        self.entries = entries
    }

    /// Reads `path`, which must be a file of this user or root that nobody else can read.
    public init(reading path: String) throws(TokenFileError) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw Self.failure(path) }
        defer { close(descriptor) }
        var facts = stat()
        guard fstat(descriptor, &facts) == 0 else { throw Self.failure(path) }
        guard facts.st_mode & S_IFMT == S_IFREG else {
            throw TokenFileError("\(path): not a file")
        }
        guard facts.st_mode & 0o077 == 0 else {
            throw TokenFileError(
                "\(path): others can read it; chmod 600 it, and make new tokens")
        }
        guard facts.st_uid == geteuid() || facts.st_uid == 0 else {
            throw TokenFileError("\(path): it belongs to another user")
        }
        let text = try Self.read(descriptor, path: path)
        try self.init(parsing: text, path: path)
    }

    /// Makes `path` with one random token, mode 0600, where it is not there yet.
    public static func create(at path: String) throws(TokenFileError) {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            if errno == EEXIST { return }
            throw failure(path)
        }
        defer { close(descriptor) }
        var generator = SystemRandomNumberGenerator()
        let digits = Array("0123456789abcdef".utf8)
        var text = (0..<2 * tokenBytes).map { _ in
            digits[Int.random(in: 0..<16, using: &generator)]
        }
        text.append(UInt8(ascii: "\n"))
        guard write(descriptor, text, text.count) == text.count else { throw failure(path) }
    }

    /// The name of who holds `token`; `nil` where nobody does. Takes the same time for
    /// every wrong token of one length: it looks at every byte of every entry.
    func owner(of token: Substring) -> String? {
        var token = token
        return token.withUTF8 { candidate in
            var owner: String?
            for entry in entries where Self.isEqual(entry.token, candidate) { owner = entry.name }
            return owner
        }
    }

    private static func isEqual(
        _ token: [UInt8], _ candidate: UnsafeBufferPointer<UInt8>
    ) -> Bool {
        var difference = token.count ^ candidate.count
        for index in token.indices {
            let other = candidate.isEmpty ? 0 : candidate[index % candidate.count]
            difference |= Int(token[index] ^ other)
        }
        return difference == 0
    }

    private static func read(
        _ descriptor: Int32, path: String
    ) throws(TokenFileError) -> String {
        var bytes = [UInt8](repeating: 0, count: largestBytes)
        var have = 0
        while have < bytes.count {
            let got = bytes.withUnsafeMutableBytes {
                Glibc.read(descriptor, $0.baseAddress.map { $0 + have }, $0.count - have)
            }
            if got == 0 { return String(decoding: bytes[..<have], as: UTF8.self) }
            if got > 0 { have += got } else if errno != EINTR { throw failure(path) }
        }
        throw TokenFileError("\(path): longer than 1 MiB")
    }

    private static func failure(_ path: String) -> TokenFileError {
        TokenFileError("\(path): \(String(cString: strerror(errno)))")
    }
}

/// The tokens in use, which every event loop reads. They are replaced as a whole.
final class TokenStore: Sendable {
    private let current: Mutex<TokenFile>

    init(_ tokens: TokenFile) {
        current = Mutex(tokens)
    }

    var path: String { current.withLock { $0.path } }

    func owner(of token: Substring) -> String? {
        let tokens = current.withLock { $0 }
        return tokens.owner(of: token)
    }

    func replace(with tokens: TokenFile) {
        current.withLock { $0 = tokens }
    }
}
