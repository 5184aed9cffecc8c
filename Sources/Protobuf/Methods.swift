// What the generated services are made of. Knows no call: GRPCWire makes calls of these.

/// Which sides of a call send more than one message.
public enum StreamingKind: Hashable, Sendable {
    case unary
    case clientStreaming
    case serverStreaming
    case bidirectional
}

/// One method of a service.
public struct MethodDescriptor<Request: ProtobufMessage, Response: ProtobufMessage>: Sendable {
    /// The service's full name: "procgate.v1.ProcessService".
    public let service: String
    /// "Exec".
    public let name: String
    /// As it stands in `:path`: "/procgate.v1.ProcessService/Exec".
    public let path: String
    public let kind: StreamingKind

    public init(service: String, name: String, path: String, kind: StreamingKind) {
        self.service = service
        self.name = name
        self.path = path
        self.kind = kind
    }
}

/// One proto file, as the reflection service hands it out.
public struct FileDescriptor: Sendable {
    /// "procgate/v1/process.proto".
    public let name: String
    /// The names of the files that it imports.
    public let dependencies: [String]
    /// The full names of its services.
    public let services: [String]
    /// The full names of all that it declares: services and their methods, messages and their
    /// fields and oneofs, enums and their values.
    public let symbols: [String]
    /// An encoded google.protobuf.FileDescriptorProto, without comments.
    public let bytes: [UInt8]

    public init(
        name: String, dependencies: [String], services: [String], symbols: [String],
        bytes: [UInt8]
    ) {
        self.name = name
        self.dependencies = dependencies
        self.services = services
        self.symbols = symbols
        self.bytes = bytes
    }
}
