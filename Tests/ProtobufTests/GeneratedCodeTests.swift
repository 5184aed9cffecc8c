// What the generated code says of its proto files.

import GRPCProtos
import ProcgateInternal
import ProcgateV1
import Protobuf
import Testing

@Suite struct GeneratedCodeTests {
    @Test func methodsHaveTheirPathAndKind() {
        let exec = ProcessService.exec
        #expect(exec.path == "/procgate.v1.ProcessService/Exec")
        #expect(exec.service == ProcessService.fullName)
        #expect(exec.name == "Exec")
        #expect(exec.kind == .serverStreaming)
        #expect(ProcessService.getProcess.kind == .unary)
        #expect(ProcessService.streamStdin.kind == .clientStreaming)
        #expect(ProcessService.attach.kind == .bidirectional)
        #expect(ProcessService.allMethods.count == 16)
        #expect(ProcessService.allMethods.map(\.path).contains("/procgate.v1.ProcessService/Wait"))
        #expect(Health.watch.path == "/grpc.health.v1.Health/Watch")
        #expect(
            GRPCReflectionAlpha.ServerReflection.serverReflectionInfo.path
                == "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        #expect(Tests.bidirectional.kind == .bidirectional)
    }

    @Test func messagesHaveTheirFullName() {
        #expect(ProcgateV1.ProcessSpec.fullName == "procgate.v1.ProcessSpec")
        #expect(Nested.Inner.Innermost.fullName == "procgate.test.Nested.Inner.Innermost")
        #expect(AnyMessage.fullName == "procgate.test.Any")
        #expect(GRPCProtos.AnyMessage.fullName == "google.protobuf.Any")
    }

    @Test func enumsKnowTheirValues() {
        #expect(ProcessStatus.allCases.map(\.rawValue) == [0, 1, 2, 3, 4, 5, 6])
        #expect(ProcessStatus(rawValue: 6) == .timedOut)
        #expect(ProcessStatus(rawValue: 7) == .unrecognized(7))
        #expect(HealthCheckResponse.ServingStatus.notServing.rawValue == 2)
        #expect(Colour.below.rawValue == -7)
        #expect(Aliased.alsoFirst == .first)
        #expect(AnyMessage.TypeEnum.selfValue.rawValue == 1)
    }

    @Test func fileDescriptorsNameAllTheirSymbols() {
        let files = ProcgateV1.FileDescriptors.all
        #expect(files.map(\.name) == ["procgate/v1/process.proto"])
        let symbols = Set(files[0].symbols)
        #expect(
            symbols.isSuperset(of: [
                "procgate.v1.ProcessService", "procgate.v1.ProcessService.Exec",
                "procgate.v1.ProcessEvent", "procgate.v1.ProcessEvent.event",
                "procgate.v1.ProcessEvent.output", "procgate.v1.ProcessStatus",
                "procgate.v1.PROCESS_STATUS_QUEUED",
            ]))
        #expect(files[0].services == ["procgate.v1.ProcessService"])
        let status = GRPCProtos.FileDescriptors.all.first { $0.name == "google/rpc/status.proto" }
        #expect(status?.dependencies == ["google/protobuf/any.proto"])
    }

    @Test func fileDescriptorsBeginWithTheirNameAndPackage() {
        for file in GRPCProtos.FileDescriptors.all + FileDescriptors.all {
            #expect(file.bytes.starts(with: field(1, [UInt8](file.name.utf8))))
        }
    }

    @Test func everyReasonOfTheContractHasItsCode() throws {
        var missing = Set(ErrorReason.allCases)
        for (reason, code) in try contractReasons() {
            let known = try #require(ErrorReason(rawValue: reason), "\(reason)")
            #expect(known.code == code, "\(reason)")
            missing.remove(known)
        }
        // Those of the gateway itself, which any method may give.
        #expect(
            missing == [
                .tokenInvalid, .supervisorUnavailable, .authenticationThrottled, .requestInvalid,
                .sessionSuperseded,
            ])
    }

    /// The reasons in the comments of the contract, each after its gRPC code: "NOT_FOUND: A, B.".
    private func contractReasons() throws -> [(String, Int)] {
        let codes = [
            "INVALID_ARGUMENT": 3, "DEADLINE_EXCEEDED": 4, "NOT_FOUND": 5, "ALREADY_EXISTS": 6,
            "PERMISSION_DENIED": 7, "RESOURCE_EXHAUSTED": 8, "FAILED_PRECONDITION": 9,
            "OUT_OF_RANGE": 11, "UNAVAILABLE": 14,
        ]
        let contract = try textFile("proto/procgate/v1/process.proto")
        let service = contract.split(separator: "\n").drop { !$0.hasPrefix("service ") }
            .prefix { $0 != "}" }.joined(separator: " ")
        var reasons: [(String, Int)] = []
        var code: Int?
        for word in service.split(separator: " ") {
            let name = String(word.filter { $0.isLetter || $0 == "_" })
            // Written as a reason is, and none.
            let others = ["SIGNAL_SCOPE_TREE", "TERM", "INT", "KILL", "KEEP", "NULL"]
            guard name == name.uppercased(), name.count > 2, !others.contains(name) else {
                continue
            }
            if let next = codes[name], word.hasSuffix(":") {
                code = next
            } else if let code {
                reasons.append((name, code))
            }
        }
        return reasons
    }
}
