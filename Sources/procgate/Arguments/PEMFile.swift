// A PEM file that an option names: whether it is there and holds what is meant. What the bytes of
// it are worth is for TLS to say.

import Glibc

enum PEMFile {
    enum Content: String {
        case certificate
        case key = "private key"

        /// As the line before it ends.
        fileprivate var label: String {
            switch self {
            case .certificate: "CERTIFICATE-----"
            case .key: "PRIVATE KEY-----"
            }
        }
    }

    /// - Parameter option: Which names it, for the message: two of them are often confused.
    /// - Throws: Where it cannot be read, or begins nothing of that content.
    static func check(
        _ path: String, holds content: Content, for option: String
    ) throws(Failure) {
        var facts = stat()
        guard stat(path, &facts) == 0 else { throw failure(option, path) }
        // What is read from a pipe is gone.
        guard facts.st_mode & S_IFMT != S_IFIFO else { return }
        guard facts.st_mode & S_IFMT == S_IFREG else {
            throw Failure("\(option) \(path): not a file")
        }
        guard let text = readSmallFile(path) else { throw failure(option, path) }
        let begins = text.split(whereSeparator: \.isNewline).filter { $0.hasPrefix("-----BEGIN ") }
        guard begins.contains(where: { $0.hasSuffix(content.label) }) else {
            throw Failure("\(option) \(path): there is no \(content.rawValue) in it; PEM is meant")
        }
        if content == .key, text.contains("ENCRYPTED") {
            throw Failure("\(option) \(path): the key has a passphrase; write it without one")
        }
    }

    private static func failure(_ option: String, _ path: String) -> Failure {
        Failure("\(option) \(path): \(String(cString: strerror(errno)))")
    }
}
