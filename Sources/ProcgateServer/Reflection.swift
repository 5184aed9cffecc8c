// grpc.reflection: what the gateway's services look like, from the descriptors that were
// embedded when the code was generated. v1 and v1alpha have the same bytes on the wire.

import GRPCProtos
import GRPCWire
import ProcgateV1
import Protobuf

/// Answers reflection requests from a fixed set of files.
struct Reflection: Sendable {
    private let files: [String: Protobuf.FileDescriptor]
    private let fileOfSymbol: [String: String]
    private let services: [String]

    /// Largest question: it names a file or a symbol.
    static let requestBytes = 64 * 1024

    init(files: [Protobuf.FileDescriptor]) {
        self.files = Dictionary(
            files.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        fileOfSymbol = Dictionary(
            files.flatMap { file in file.symbols.map { ($0, file.name) } },
            uniquingKeysWith: { first, _ in first })
        services = files.flatMap(\.services).sorted()
    }

    /// The gateway's own services.
    static let gateway = Reflection(
        files: ProcgateV1.FileDescriptors.all + GRPCProtos.FileDescriptors.all)

    func answer(_ call: ServerCall) async throws(GRPCStatus) {
        while let request = try await call.next(GRPCReflection.ServerReflectionRequest.self) {
            let response = GRPCReflection.ServerReflectionResponse.with {
                $0.validHost = request.host
                $0.originalRequest = request
                $0.messageResponse = answer(to: request.messageRequest)
            }
            try await call.send(response)
        }
    }

    private func answer(
        to request: GRPCReflection.ServerReflectionRequest.MessageRequest?
    ) -> GRPCReflection.ServerReflectionResponse.MessageResponse {
        switch request {
        case .fileByFilename(let name):
            return descriptors(of: name) ?? notFound("no file \(name.cut(toBytes: 200))")
        case .fileContainingSymbol(let symbol):
            return fileOfSymbol[symbol].flatMap { descriptors(of: $0) }
                ?? notFound("no symbol \(symbol.cut(toBytes: 200))")
        case .listServices:
            return .listServicesResponse(
                .with { $0.service = services.map { name in .with { $0.name = name } } })
        case .fileContainingExtension:
            return notFound("proto3 has no extensions")
        case .allExtensionNumbersOfType(let type):
            guard fileOfSymbol[type] != nil, !services.contains(type) else {
                return notFound("no type \(type.cut(toBytes: 200))")
            }
            return .allExtensionNumbersResponse(.with { $0.baseTypeName = type })
        case nil:
            return failure(.invalidArgument, "the request is empty")
        }
    }

    /// The file itself, then all that it imports.
    private func descriptors(
        of name: String
    ) -> GRPCReflection.ServerReflectionResponse.MessageResponse? {
        guard files[name] != nil else { return nil }
        var names: [String] = []
        collect(name, into: &names)
        return .fileDescriptorResponse(
            .with { $0.fileDescriptorProto = names.reversed().compactMap { files[$0]?.bytes } })
    }

    private func collect(_ name: String, into names: inout [String]) {
        guard let file = files[name], !names.contains(name) else { return }
        for dependency in file.dependencies { collect(dependency, into: &names) }
        names.append(name)
    }

    private func notFound(
        _ message: String
    ) -> GRPCReflection.ServerReflectionResponse.MessageResponse {
        failure(.notFound, message)
    }

    private func failure(
        _ code: GRPCCode, _ message: String
    ) -> GRPCReflection.ServerReflectionResponse.MessageResponse {
        .errorResponse(
            .with {
                $0.errorCode = Int32(code.rawValue)
                $0.errorMessage = message
            })
    }
}
