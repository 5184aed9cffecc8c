// The channel to a gateway, made of an address. The one file that knows the channel's options.

internal import GRPCWire
internal import NIOCore

func makeChannel(
    _ address: GatewayAddress, tls: SandboxTLS?, connectTimeout: Duration,
    group: (any EventLoopGroup)?
) throws(SandboxError) -> GRPCChannel {
    fatalError()
}
