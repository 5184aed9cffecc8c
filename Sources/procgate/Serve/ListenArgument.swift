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
            guard !given.isEmpty, path.utf8.count > 1, path.utf8.count <= 107 else { return nil }
            address = .unix(path: path)
            return
        }
        guard let colon = argument.lastIndex(of: ":"),
            let number = scaledNumber(argument[argument.index(after: colon)...], by: 1),
            let port = UInt16(exactly: number)
        else { return nil }
        var host = argument[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = host.dropFirst().dropLast()
            guard host.contains(":") else { return nil }
        } else if host.contains(":") {
            return nil
        }
        guard !host.isEmpty else { return nil }
        address = .tcp(host: String(host), port: Int(port))
    }
}
