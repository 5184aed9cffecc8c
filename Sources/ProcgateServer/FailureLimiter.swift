// How often one peer may fail to say who it is. Knows no token: whoever has a right one never
// gets here.

import GRPCWire
import Glibc
import NIOCore
import Synchronization

/// Counts failures by peer, for all event loops together. A caller with a good token is never
/// held up by another one's failures, behind the same proxy or not.
final class FailureLimiter: Sendable {
    private struct Bucket {
        var failures: Double
        var at: NIODeadline

        /// What is left of the failures at `now`.
        func remaining(at now: NIODeadline) -> Double {
            max(0, failures - Double((now - at).nanoseconds) / 1e9 * FailureLimiter.perSecond)
        }
    }

    /// Failures at once, and regained each second.
    static let burst = 20.0
    static let perSecond = 1.0
    /// Peers remembered. Beyond, those whose last failure is oldest are forgotten, a quarter at
    /// a time.
    private static let mostPeers = 4_096

    private let buckets = Mutex<[String: Bucket]>([:])

    /// Counts a failure of `peer`; returns whether it has had too many.
    func fails(_ peer: PeerIdentity, at now: NIODeadline = .now()) -> Bool {
        let key = Self.key(of: peer)
        return buckets.withLock { buckets in
            let failures = buckets[key]?.remaining(at: now) ?? 0
            let isOver = failures + 1 > Self.burst
            // Those that are refused are not counted: it has to wait a second, not an hour.
            let counted = isOver ? failures : failures + 1
            if buckets.count >= Self.mostPeers, buckets[key] == nil { Self.forgetOldest(&buckets) }
            buckets[key] = Bucket(failures: counted, at: now)
            return isOver
        }
    }

    private static func forgetOldest(_ buckets: inout [String: Bucket]) {
        let oldest = buckets.sorted { $0.value.at < $1.value.at }.prefix(mostPeers / 4)
        for (key, _) in oldest { buckets[key] = nil }
    }

    /// An address; of IPv6 the network of 64 bits, which is one host's to choose from; of a unix
    /// socket the user.
    private static func key(of peer: PeerIdentity) -> String {
        if let user = peer.unix?.userID { return "user \(user)" }
        guard peer.host.contains(":") else { return peer.host }
        var address = in6_addr()
        let literal = String(peer.host.prefix { $0 != "%" })
        guard inet_pton(AF_INET6, literal, &address) == 1 else { return peer.host }
        return withUnsafeBytes(of: address) { bytes in
            let isMapped =
                bytes[..<10].allSatisfy { $0 == 0 } && bytes[10] == 0xff && bytes[11] == 0xff
            if isMapped {
                return bytes[12...].map { String($0) }.joined(separator: ".")
            }
            return bytes[..<8].map { String($0, radix: 16) }.joined(separator: ":") + "/64"
        }
    }
}
