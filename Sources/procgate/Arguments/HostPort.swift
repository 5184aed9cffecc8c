// Addresses as they are written: HOST:PORT, and what a client command takes for a gateway's. Looks
// up no name.

import GRPCWire
import Glibc

/// A host, and the port where one is named.
struct HostPort: Equatable {
    /// Without brackets.
    let host: String
    let port: UInt16?

    /// `nil` where the host is empty or no host, where an IPv6 address has no brackets, or where
    /// the port is not made of digits alone.
    init?(_ text: Substring) {
        let host: Substring
        let rest: Substring
        if text.hasPrefix("[") {
            guard let end = text.firstIndex(of: "]") else { return nil }
            host = text[..<end].dropFirst()
            rest = text[end...].dropFirst()
            guard isIPv6(host) else { return nil }
        } else {
            let end = text.firstIndex(of: ":") ?? text.endIndex
            host = text[..<end]
            rest = text[end...]
            guard !host.isEmpty, !host.contains(where: isNoHost) else { return nil }
        }
        self.host = String(host)
        guard !rest.isEmpty else {
            self.port = nil
            return
        }
        guard rest.hasPrefix(":"), let digits = scaledNumber(rest.dropFirst(), by: 1),
            let number = UInt16(exactly: digits)
        else { return nil }
        port = number
    }
}

/// Without brackets: `localhost`, or an address of this host alone, however it is written.
func isLoopback(_ host: String) -> Bool {
    if host == "localhost" { return true }
    var v4 = in_addr()
    if inet_pton(AF_INET, host, &v4) == 1 { return UInt32(bigEndian: v4.s_addr) >> 24 == 127 }
    var v6 = in6_addr()
    guard inet_pton(AF_INET6, host, &v6) == 1 else { return false }
    return withUnsafeBytes(of: v6) { bytes in
        bytes.last == 1 && bytes.dropLast().allSatisfy { $0 == 0 }
    }
}

/// A scope may follow: `fe80::1%eth0`.
private func isIPv6(_ text: Substring) -> Bool {
    var address = in6_addr()
    return inet_pton(AF_INET6, String(text.prefix { $0 != "%" }), &address) == 1
}

private func isNoHost(_ character: Character) -> Bool {
    character.isWhitespace || "/[]@?#%".contains(character)
}

/// `http://HOST:PORT`, `https://HOST:PORT`, `HOST:PORT` or `unix:PATH`.
func isGatewayAddress(_ text: String) -> Bool {
    if let path = socketPath(text) {
        return path.hasPrefix("/") && path.utf8.count > 1
            && path.utf8.count <= SocketFile.longestPathBytes
    }
    var rest = Substring(text)
    for scheme in ["http://", "https://"] where text.hasPrefix(scheme) {
        rest = rest.dropFirst(scheme.count)
    }
    if rest.hasSuffix("/") { rest = rest.dropLast() }
    return HostPort(rest).map { $0.port != 0 } ?? false
}

/// What follows `unix:`, or `unix://` as URLs have it, from the root; `nil` for other addresses.
func socketPath(_ address: String) -> String? {
    for prefix in ["unix://", "unix:"] where address.hasPrefix(prefix) {
        let path = String(address.dropFirst(prefix.count))
        return path.isEmpty || prefix == "unix://" ? path : absolute(path)
    }
    return nil
}
