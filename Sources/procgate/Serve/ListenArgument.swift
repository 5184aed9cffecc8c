// An address to listen on, as it is written on the command line.

import ArgumentParser
import GRPCWire

/// `HOST:PORT`, `[v6]:PORT` or `unix:PATH`.
struct ListenArgument: ExpressibleByArgument, Equatable {
    let address: ListenAddress

    init?(argument: String) {
        if argument.hasPrefix("unix:") {
            let given = argument.dropFirst("unix:".count)
            let path = absolute(String(given))
            guard !given.isEmpty, path.utf8.count > 1 else { return nil }
            address = .unix(path: path)
            return
        }
        guard let parts = HostPort(argument[...]), let port = parts.port else { return nil }
        address = .tcp(host: parts.host, port: Int(port))
    }

    /// Nobody on another host reaches it.
    var isOfThisHost: Bool {
        guard case .tcp(let host, _) = address else { return true }
        return isLoopback(host)
    }

    /// Why it cannot be listened on, where that is known before it is tried.
    var problem: String? {
        guard case .unix(let path) = address, path.utf8.count > SocketFile.longestPathBytes else {
            return nil
        }
        return
            "the path of a unix socket has at most \(SocketFile.longestPathBytes) bytes: \(path) has "
            + "\(path.utf8.count)"
    }
}
