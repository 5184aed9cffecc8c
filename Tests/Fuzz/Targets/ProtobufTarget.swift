// Decoding of every request of the contract, of both directions of the link, and of gRPC's own
// services. What is decoded can be encoded, and reads the same again.

import GRPCProtos
import ProcgateInternal
import ProcgateV1
import Protobuf

private let decoders: [@Sendable (UnsafeRawBufferPointer) -> Void] = [
    decoder(ExecRequest.self), decoder(StartProcessRequest.self), decoder(AttachRequest.self),
    decoder(StreamOutputRequest.self),
    decoder(WaitRequest.self), decoder(WriteStdinRequest.self), decoder(StreamStdinRequest.self),
    decoder(ResizeTerminalRequest.self), decoder(SignalRequest.self),
    decoder(StopProcessRequest.self),
    decoder(GetProcessRequest.self), decoder(ListProcessesRequest.self),
    decoder(WatchProcessesRequest.self),
    decoder(DeleteProcessRequest.self), decoder(GetGatewayRequest.self),
    decoder(SetCordonRequest.self),
    decoder(Command.self), decoder(Event.self),
    decoder(ProcessEvent.self), decoder(ListProcessesResponse.self),
    decoder(HealthCheckRequest.self), decoder(GRPCReflection.ServerReflectionRequest.self),
    decoder(GRPCProtos.Status.self),
]

/// What the gateway lets one request take; less here, so that an input finds the limit.
private let memoryLimit = 1 << 20

func fuzzProtobuf(_ bytes: UnsafeRawBufferPointer) {
    guard let index = bytes.first else { return }
    let body = UnsafeRawBufferPointer(rebasing: bytes.dropFirst())
    decoders[Int(index) % decoders.count](body)
    detach(body)
}

private func decoder<Message: ProtobufMessage>(
    _ type: Message.Type
) -> @Sendable (UnsafeRawBufferPointer) -> Void {
    { decode(type, $0) }
}

private func decode<Message: ProtobufMessage>(
    _ type: Message.Type, _ bytes: UnsafeRawBufferPointer
) {
    guard let message = try? Message(decoding: bytes, memoryLimit: memoryLimit) else { return }
    let encoded = message.encoded()
    guard let again = try? Message(decoding: encoded) else {
        fatalError("\(Message.fullName): what was encoded cannot be decoded")
    }
    // A NaN differs from itself; the sizes agree even then.
    check(
        again == message || again.encoded().count == encoded.count,
        "\(Message.fullName) changes on its way")
}

/// The data of a write is taken out without being decoded: it must be what decoding gives.
private func detach(_ bytes: UnsafeRawBufferPointer) {
    guard let request = try? WriteStdinRequest(decoding: bytes) else { return }
    guard let detached = try? DetachedField(2, of: bytes) else {
        fatalError("a message that decodes cannot be taken apart")
    }
    check(
        request.data.elementsEqual(bytes[detached.content]), "the detached field is another one")
    guard let rest = try? WriteStdinRequest(decoding: detached.rest) else {
        fatalError("what is left of a message does not decode")
    }
    check(rest.processId == request.processId && rest.data.isEmpty, "the rest is another message")
}
