// Which node of a fleet this gateway is, and whether a call is for it. Decides from names alone.

import GRPCWire
import ProcgateV1

/// The name that `--node` gives; empty outside of a fleet.
struct NodeIdentity: Sendable, Equatable {
    let name: String

    /// By which a caller names the node, or the supervisor, that its call is for.
    static let nodeField = "procgate-node"
    static let instanceField = "procgate-instance"

    /// The node in a process id: everything before its last "-".
    static func node(of processID: String) -> Substring? {
        processID.lastIndex(of: "-").map { processID[..<$0] }
    }

    /// Refuses a call whose metadata names another node, or another supervisor.
    ///
    /// - Parameter instance: of the supervisor; `nil` while there is none.
    func check(_ metadata: Metadata, instance: String?) throws(GRPCStatus) {
        if let node = metadata.first(Self.nodeField), !name.isEmpty, node != name {
            throw wrongNode("node \(node.cut(toBytes: 64))", instance)
        }
        if let wanted = metadata.first(Self.instanceField), let instance, wanted != instance {
            throw wrongNode("instance \(wanted.cut(toBytes: 64))", instance)
        }
    }

    /// A process that is not known here and has another node's id is not gone: it is elsewhere.
    func refine(_ status: GRPCStatus, processID: String?, instance: String?) -> GRPCStatus {
        // The supervisor's own refusal, which does not know the node's name.
        if status.reason == .wrongNode { return wrongNode("another instance", instance) }
        guard !name.isEmpty, let processID, let node = Self.node(of: processID), node != name,
            status.reason == .processNotFound
        else { return status }
        return wrongNode("node \(String(node).cut(toBytes: 64))", instance)
    }

    private func wrongNode(_ other: String, _ instance: String?) -> GRPCStatus {
        .refusal(
            .wrongNode, "the call is for \(other), and this is node \(name.isEmpty ? "-" : name)",
            metadata: ["node": name, "instance": instance ?? ""])
    }
}

extension GRPCStatus {
    /// A refusal that ran nothing, and that another node may accept, says so to proxies and
    /// clients by gRPC's push-back: the time after which a repeat makes sense, in milliseconds.
    static let pushback = (field: "grpc-retry-pushback-ms", milliseconds: "1000")

    var mayBeAcceptedElsewhere: Bool {
        switch reason {
        case .tooManyProcesses, .inputMemoryExhausted, .cordoned: true
        default: false
        }
    }
}
