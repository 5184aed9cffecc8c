// One structured line for each call: who called what, how it ended, how long it took.
// Never a token, an environment or a byte of stdin.

import GRPCWire
import Logging

struct CallLog: Sendable {
    let logger: Logger

    func record(_ call: CallSummary) {
        let level: Logger.Level = call.code == .internal || call.code == .unknown ? .error : .info
        guard logger.logLevel <= level else { return }
        var metadata: Logger.Metadata = [
            "method": "\(call.path.cut(toBytes: 200))",
            "status": "\(call.code.name)",
            "duration_ms": .stringConvertible(
                Double(call.duration.nanoseconds / 1_000) / 1_000),
            "peer": "\(call.peer.address)",
        ]
        if let caller = call.principal, !caller.isEmpty {
            metadata["caller"] = "\(caller.cut(toBytes: 200))"
        }
        if let process = call.note { metadata["process"] = "\(process.cut(toBytes: 64))" }
        if !call.message.isEmpty { metadata["error"] = "\(call.message.cut(toBytes: 500))" }
        logger.log(level: level, "call", metadata: metadata)
    }

    func record(_ event: ConnectionEvent) {
        switch event {
        case .opened(let peer):
            logger.debug("connection opened", metadata: ["peer": "\(peer.address)"])
        case .closed(let peer, let reason):
            logger.debug(
                "connection closed",
                metadata: [
                    "peer": "\(peer.address)", "reason": "\((reason ?? "").cut(toBytes: 500))",
                ])
        case .refused:
            logger.warning("connection refused: too many")
        case .flooded(let peer, let flood):
            logger.warning(
                "connection cut off", metadata: ["peer": "\(peer.address)", "flood": "\(flood)"])
        case .handshakeFailed(let reason):
            logger.debug("handshake failed", metadata: ["reason": "\(reason.cut(toBytes: 500))"])
        }
    }
}
