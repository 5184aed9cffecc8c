// Which handler serves which path. Only values.

public import Protobuf

/// One method of a service and what serves it.
public struct ServerMethod: Sendable {
    public typealias Handler =
        nonisolated(nonsending) @Sendable (ServerCall) async throws -> Void

    /// As it stands in `:path`: "/procgate.v1.ProcessService/Exec".
    public let path: String
    public let kind: StreamingKind
    public let handler: Handler
    /// Largest request message, where it is less than the server's.
    public let maxMessageBytes: Int?

    /// - Parameter handler: Returning is status OK; a thrown ``GRPCStatus`` is that status,
    ///   anything else thrown is INTERNAL without its text. Runs on the call's event loop.
    public init(
        path: String, kind: StreamingKind, maxMessageBytes: Int? = nil,
        handler: @escaping Handler
    ) {
        self.path = path
        self.kind = kind
        self.maxMessageBytes = maxMessageBytes
        self.handler = handler
    }

    /// The same method, whose request messages have at most `bytes`.
    public func taking(atMost bytes: Int) -> ServerMethod {
        ServerMethod(path: path, kind: kind, maxMessageBytes: bytes, handler: handler)
    }

    /// A method that takes and gives messages itself.
    public init<Request, Response>(
        _ method: MethodDescriptor<Request, Response>, handler: @escaping Handler
    ) {
        self.init(path: method.path, kind: method.kind, handler: handler)
    }

    /// A method of one message each way.
    public static func unary<Request, Response>(
        _ method: MethodDescriptor<Request, Response>,
        _ body:
            nonisolated(nonsending) @escaping @Sendable (Request, ServerCall) async throws ->
            Response
    ) -> ServerMethod {
        ServerMethod(path: method.path, kind: .unary) { call in
            let response = try await body(call.request(Request.self), call)
            try await call.send(response)
        }
    }
}

/// The methods that a server has.
public struct ServiceRouter: Sendable {
    private let methods: [String: ServerMethod]
    private let services: Set<String>

    /// - Precondition: no two methods have the same path.
    public init(_ methods: [ServerMethod]) {
        self.methods = Dictionary(uniqueKeysWithValues: methods.map { ($0.path, $0) })
        services = Set(methods.map { Self.service(of: $0.path) })
    }

    subscript(path: String) -> ServerMethod? { methods[path] }

    /// What a caller of a path that is not there is told.
    func unknown(_ path: String) -> GRPCStatus {
        let service = Self.service(of: path)
        let name = String(path.split(separator: "/").last ?? "")
        return services.contains(service)
            ? GRPCStatus(.unimplemented, "service \(service) has no method \(name)")
            : GRPCStatus(.unimplemented, "there is no service \(service)")
    }

    private static func service(of path: String) -> String {
        String(path.split(separator: "/", omittingEmptySubsequences: true).first ?? "")
    }
}
