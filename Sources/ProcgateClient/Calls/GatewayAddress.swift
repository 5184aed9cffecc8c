// Where a gateway is, read from text. Opens nothing.

/// `http://HOST:PORT`, `https://HOST:PORT`, `unix:PATH`, or `HOST:PORT`, which is `http://`.
enum GatewayAddress: Hashable, Sendable {
    case tcp(host: String, port: Int, isTLS: Bool)
    case unix(path: String)

    static let defaultPort = 7070

    init(_ text: String) throws(SandboxError) {
        if text.hasPrefix("unix:") {
            // `unix:///path` is how other gRPC clients write it.
            let rest = text.dropFirst("unix:".count)
            let path = rest.hasPrefix("//") ? String(rest.dropFirst(2)) : String(rest)
            guard !path.isEmpty, !path.utf8.contains(0) else { throw Self.invalid(text) }
            self = .unix(path: path)
            return
        }
        var rest = text[...]
        var isTLS = false
        if let scheme = text.firstRange(of: "://") {
            switch text[..<scheme.lowerBound].lowercased() {
            case "http": break
            case "https": isTLS = true
            default: throw Self.invalid(text)
            }
            rest = text[scheme.upperBound...]
        }
        if rest.hasSuffix("/") { rest = rest.dropLast() }
        guard let (host, port) = Self.split(rest) else { throw Self.invalid(text) }
        self = .tcp(host: host, port: port, isTLS: isTLS)
    }

    /// `HOST`, `HOST:PORT`, `[V6]` or `[V6]:PORT`; `nil` where it is none of them.
    private static func split(_ text: Substring) -> (host: String, port: Int)? {
        var host = text
        var port: Substring?
        if text.hasPrefix("[") {
            guard let end = text.firstIndex(of: "]") else { return nil }
            host = text[text.index(after: text.startIndex)..<end]
            let rest = text[text.index(after: end)...]
            if !rest.isEmpty {
                guard rest.hasPrefix(":") else { return nil }
                port = rest.dropFirst()
            }
        } else if let colon = text.firstIndex(of: ":") {
            host = text[..<colon]
            port = text[text.index(after: colon)...]
        }
        let number = port.map { Int($0) } ?? defaultPort
        guard !host.isEmpty, !host.contains(where: { " /?#@[]".contains($0) }),
            let number, (1...65535).contains(number)
        else { return nil }
        return (String(host), number)
    }

    private static func invalid(_ text: String) -> SandboxError {
        SandboxError(
            .invalidAddress,
            "\"\(text)\" is not an address: write http://HOST:PORT, https://HOST:PORT or unix:PATH")
    }
}
