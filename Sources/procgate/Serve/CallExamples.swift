// How to call a gateway that was just started: one line for each of three ways.

enum CallExamples {
    /// - Parameter address: as the gateway listens on it.
    static func lines(address: String, needsToken: Bool) -> [String] {
        let runtime = (try? RuntimeDirectory.path()) ?? "RUNTIME"
        let token = needsToken ? "$(cat \(runtime)/token)" : ""
        let header = needsToken ? " -H \"authorization: Bearer \(token)\"" : ""
        let metadata =
            needsToken
            ? ", metadata=[('authorization', 'Bearer ' + open('\(runtime)/token').read().strip())]"
            : ""
        let service = "procgate.v1.ProcessService"
        return [
            "  the command line:  .build/release/procgate exec --address \(address) -- 'node -v'",
            "  Python (stubs by grpc_tools.protoc from proto/):  "
                + "ProcessServiceStub(grpc.insecure_channel('\(address)'))"
                + ".Exec(ExecRequest(process=ProcessSpec(command='date'))\(metadata))",
            "  grpcurl:  grpcurl -plaintext\(header) "
                + "-d '{\"process\":{\"command\":\"date\"}}' \(address) \(service)/Exec",
        ]
    }
}
