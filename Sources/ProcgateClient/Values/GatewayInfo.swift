// What the gateway says of itself.

internal import ProcgateV1

/// The gateway's version, limits and abilities. Each 0 is what the gateway did not tell.
public struct GatewayInfo: Sendable, Hashable {
    /// Of the gateway.
    public var version: String
    /// New at each start of the supervisor: processes of another one are gone.
    public var instanceID: String
    /// How far limits are kept there.
    public var limitsEnforced: LimitsEnforcement?
    /// Processes that run at one time.
    public var maxRunning: Int
    /// Processes that may wait for a place.
    public var maxQueued: Int
    /// The largest request message.
    public var maxMessageBytes: Int
    /// Output kept for each process.
    public var retainBytes: Int
    /// How long an ended process is remembered.
    public var retainTime: Duration
    /// How long a stream is idle before the gateway sends a sign of life.
    public var keepAlive: Duration
    /// The name of the node in a fleet; empty outside of one.
    public var node: String
    /// New processes are refused.
    public var isCordoned: Bool

    init(_ wire: GetGatewayResponse) {
        version = wire.version
        instanceID = wire.instanceId
        limitsEnforced = LimitsEnforcement(wire.limitsEnforced)
        maxRunning = Int(wire.maxRunning)
        maxQueued = Int(wire.maxQueued)
        maxMessageBytes = Int(clamping: wire.maxMessageBytes)
        retainBytes = Int(clamping: wire.retainBytes)
        retainTime = .milliseconds(Int64(clamping: wire.retainMs))
        keepAlive = .milliseconds(Int64(clamping: wire.keepAliveMs))
        node = wire.node
        isCordoned = wire.cordoned
    }
}
