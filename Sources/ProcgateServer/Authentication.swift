// Who is calling: a token, a certificate's subject, or the user at the other end of a
// unix socket. Decides from what the transport and the metadata say; knows no method.

import GRPCWire
import Glibc
import Logging
import NIOCore
import ProcgateV1

/// Whoever a call is made for.
struct Caller: Sendable, Equatable {
    /// What is recorded as a process's owner; empty where callers have no identity.
    let name: String

    static let anonymous = Caller(name: "")
}

/// Finds the caller of a call, or refuses it.
struct Authentication: Sendable {
    /// `nil`: there are no tokens, and without certificates anybody who can reach the address may
    /// call.
    let tokens: TokenStore?
    /// Client certificates were demanded and verified by the TLS layer.
    let trustsCertificates: Bool
    /// The unix sockets on which users are trusted, as the addresses of their peers.
    private let trustingSockets: Set<String>
    /// The users who need no token there, the gateway's own and root, with their names. They are
    /// looked up once: a user service may take any time.
    private let trustedUsers: [UInt32: String]

    private static let scheme = "Bearer "

    /// Asks the user service. Not to be called on an event loop.
    ///
    /// - Parameter trustingSockets: the addresses of the unix sockets on which users are trusted.
    init(tokens: TokenStore?, trustsCertificates: Bool, trustingSockets: [ListenAddress]) {
        self.tokens = tokens
        self.trustsCertificates = trustsCertificates
        self.trustingSockets = Set(trustingSockets.map(\.description))
        trustedUsers = Dictionary(
            [geteuid(), 0].map { ($0, UserNames.name(of: $0)) }, uniquingKeysWith: { $1 })
    }

    /// Whether `caller(of:)` would find one, for methods that serve everybody.
    func knowsCaller(of call: ServerCall) -> Bool {
        (try? caller(of: call)) != nil
    }

    /// A token that comes with the call decides alone; without one it is the peer's user or
    /// certificate. Throws UNAUTHENTICATED with TOKEN_INVALID.
    func caller(of call: ServerCall) throws(GRPCStatus) -> Caller {
        if let credentials = call.metadata.first("authorization"),
            tokens != nil || trustsCertificates
        {
            return try holder(of: credentials)
        }
        if let user = call.peer.unix?.userID, let name = trustedUsers[user],
            trustingSockets.contains(call.peer.address)
        {
            return Caller(name: name)
        }
        if trustsCertificates, let subject = call.peer.certificate {
            return Caller(name: subject.commonName ?? subject.distinguishedName)
        }
        if tokens != nil {
            throw .refusal(
                .tokenInvalid, "no token: send the metadata `authorization: Bearer TOKEN`")
        }
        // Where certificates tell who calls, a caller without one has no identity: another user of
        // a unix socket beside the TLS listener.
        guard !trustsCertificates else {
            throw .refusal(.tokenInvalid, "no certificate, and this gateway has no tokens")
        }
        return .anonymous
    }

    private func holder(of credentials: String) throws(GRPCStatus) -> Caller {
        guard let tokens else {
            throw .refusal(
                .tokenInvalid, "this gateway has no tokens: send no `authorization` metadata")
        }
        let scheme = credentials.prefix(Self.scheme.count)
        guard scheme.lowercased() == Self.scheme.lowercased(),
            let name = tokens.owner(of: credentials.dropFirst(Self.scheme.count))
        else {
            throw .refusal(.tokenInvalid, "this token is not one of the gateway's")
        }
        return Caller(name: name)
    }
}

/// The names of local users, for owners; a user without a name is its number.
public enum UserNames {
    /// In bytes. Longer names are refused before a user service is asked: some of them abort the
    /// process that asks.
    public static let longestBytes = 256

    static func name(of user: UInt32) -> String {
        var entry = passwd()
        var found: UnsafeMutablePointer<passwd>?
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 16_384) { buffer in
            guard let base = buffer.baseAddress,
                getpwuid_r(user, &entry, base, buffer.count, &found) == 0, found != nil,
                let name = entry.pw_name
            else { return String(user) }
            return String(cString: name)
        }
    }

    /// The number of the user called `name`.
    static func number(of name: String) -> UInt32? {
        guard name.utf8.count <= longestBytes else { return nil }
        var entry = passwd()
        var found: UnsafeMutablePointer<passwd>?
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 16_384) { buffer in
            guard let base = buffer.baseAddress,
                getpwnam_r(name, &entry, base, buffer.count, &found) == 0, found != nil
            else { return nil }
            return entry.pw_uid
        }
    }
}
