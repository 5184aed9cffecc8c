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
    /// `nil`: anybody who can reach the address may call.
    let tokens: TokenFile?
    /// Client certificates were demanded and verified by the TLS layer.
    let trustsCertificates: Bool
    /// The gateway's own user, who needs no token on a unix socket; nor does root.
    private let ownUser = geteuid()

    private static let scheme = "Bearer "

    init(tokens: TokenFile?, trustsCertificates: Bool) {
        self.tokens = tokens
        self.trustsCertificates = trustsCertificates
    }

    /// Whether `caller(of:)` would find one, for methods that serve everybody.
    func knowsCaller(of call: ServerCall) -> Bool {
        (try? caller(of: call)) != nil
    }

    /// Throws UNAUTHENTICATED with TOKEN_INVALID.
    func caller(of call: ServerCall) throws(GRPCStatus) -> Caller {
        let peer = call.peer
        if let user = peer.unix?.userID, user == ownUser || user == 0 {
            return Caller(name: UserNames.name(of: user))
        }
        if trustsCertificates, let subject = peer.certificate {
            return Caller(name: subject.commonName ?? subject.distinguishedName)
        }
        guard let tokens else {
            // Where certificates tell who calls, one without any is nobody: another user of a
            // unix socket beside the TLS listener.
            guard !trustsCertificates else {
                throw .refusal(.tokenInvalid, "no certificate, and this gateway has no tokens")
            }
            return .anonymous
        }
        guard let credentials = call.metadata.first("authorization") else {
            throw .refusal(
                .tokenInvalid, "no token: send the metadata `authorization: Bearer TOKEN`")
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
enum UserNames {
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
