// An address to listen on, as it is written on the command line.

import ArgumentParser
import GRPCWire

/// `HOST:PORT`, `[v6]:PORT`, `unix:PATH` or `unix:PATH,token`.
struct ListenArgument: ExpressibleByArgument, Equatable {
    let address: ListenAddress
    /// On a unix socket: every call needs a token, whichever user it comes from.
    var needsToken = false

    init?(argument: String) {
        if argument.hasPrefix("unix:") {
            var given = argument.dropFirst("unix:".count)
            if given.hasSuffix(Self.tokenSuffix) {
                needsToken = true
                given.removeLast(Self.tokenSuffix.count)
            }
            let path = absolute(String(given))
            guard !given.isEmpty, path.utf8.count > 1 else { return nil }
            address = .unix(path: path)
            return
        }
        guard let parts = HostPort(argument[...]), let port = parts.port else { return nil }
        address = .tcp(host: parts.host, port: Int(port))
    }

    static let tokenSuffix = ",token"

    /// Nobody on another host reaches it.
    var isOfThisHost: Bool {
        guard case .tcp(let host, _) = address else { return true }
        return isLoopback(host)
    }

    /// Why it cannot be listened on, where that is known before it is tried.
    var problem: String? {
        guard case .unix(let path) = address else { return nil }
        if path.contains(",") {
            return
                "\(path) has a comma: write unix:PATH, or unix:PATH,token where every call needs "
                + "a token"
        }
        guard path.utf8.count > SocketFile.longestPathBytes else { return nil }
        return
            "the path of a unix socket has at most \(SocketFile.longestPathBytes) bytes: \(path) has "
            + "\(path.utf8.count)"
    }
}
