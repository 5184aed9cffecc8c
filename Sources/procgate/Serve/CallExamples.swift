// How to call a gateway that was just started: one line for each of three ways.

enum CallExamples {
    /// - Parameters:
    ///   - address: as the gateway listens on it.
    ///   - tokenFile: `nil` where no token is needed.
    static func lines(address: String, tokenFile: String?) -> [String] {
        let header = tokenFile.map { " -H \"authorization: Bearer $(cat \($0))\"" } ?? ""
        let metadata =
            tokenFile.map {
                ", metadata=[('authorization', 'Bearer ' + open('\($0)').read().strip())]"
            } ?? ""
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
