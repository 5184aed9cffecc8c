// Statuses of calls as errors of the library.

import GRPCProtos
import GRPCWire
import ProcgateV1
import Protobuf
import Testing

@testable import ProcgateClient

@Suite("Errors")
struct ErrorTests {
    private func status(
        _ code: GRPCCode, reason: String, metadata: [String: String] = [:], domain: String
    ) -> GRPCStatus {
        var info = ErrorInfo()
        info.reason = reason
        info.domain = domain
        info.metadata = metadata
        var detail = AnyMessage()
        detail.typeUrl = "type.googleapis.com/google.rpc.ErrorInfo"
        detail.value = info.encoded()
        var status = Status()
        status.code = Int32(code.rawValue)
        status.details = [detail]
        return GRPCStatus(code, "no", details: status.encoded())
    }

    @Test(
        "Every reason of the contract has its case, with the same code",
        arguments: ErrorReason.allCases)
    func everyReason(reason: ErrorReason) throws {
        let known = try #require(SandboxError.Reason(rawValue: reason.rawValue))
        #expect(known.code.rawValue == reason.code)
    }

    @Test("A status with details becomes its reason, and keeps what it says")
    func details() {
        let error = SandboxError(
            status(
                .outOfRange, reason: "REPLAY_WINDOW_EXPIRED",
                metadata: ["first_retained_seq": "17"], domain: "procgate"),
            processID: "p")
        #expect(error.reason == .replayWindowExpired)
        #expect(error.code == .outOfRange)
        #expect(error.firstRetainedSeq == 17)
        #expect(error.processID == "p")
        #expect(!error.mayRetry)
    }

    @Test("Reasons of other domains, and statuses without details, go by their code")
    func byCode() {
        #expect(
            SandboxError(status(.notFound, reason: "TOKEN_INVALID", domain: "other")).reason
                == .processNotFound)
        #expect(SandboxError(GRPCStatus(.unavailable, "")).reason == .gatewayUnavailable)
        #expect(SandboxError(GRPCStatus(.unavailable, "")).mayRetry)
        #expect(SandboxError(GRPCStatus(.unauthenticated, "x")).message == "x")
    }

    @Test("TLS that one side does not accept is final, and tells who refused whom")
    func tls() {
        func told(_ code: GRPCCode, _ mismatch: TransportMismatch) -> SandboxError {
            SandboxError(.transport(code, "why", notProcessed: true, mismatch: mismatch))
        }
        let distrusted = told(.permissionDenied, .untrustedCertificate)
        #expect(distrusted.reason == .certificateUntrusted)
        #expect(!distrusted.mayRetry)
        #expect(told(.permissionDenied, .tls).reason == .tlsFailed)
        #expect(!told(.permissionDenied, .tls).mayRetry)
        let refused = told(.unauthenticated, .refusedCaller)
        #expect(refused.reason == .permissionDenied)
        #expect(!refused.mayRetry)
        #expect(told(.permissionDenied, .otherProtocol).reason == .notGateway)
        // The same codes, said by the gateway or by a proxy.
        #expect(SandboxError(GRPCStatus(.permissionDenied, "no")).reason == .permissionDenied)
        #expect(SandboxError(GRPCStatus(.unauthenticated, "no")).reason == .tokenInvalid)
    }

    @Test(
        "What the transport did passes, what the gateway said does not",
        arguments: [GRPCCode.internal, .cancelled, .unknown, .resourceExhausted, .unavailable])
    func passing(code: GRPCCode) {
        #expect(GRPCStatus.transport(code, "a proxy went").isPassing)
        #expect(GRPCStatus(code, "said").isPassing == (code == .unavailable))
    }

    @Test("An unreadable pushback forbids the repeat")
    func pushback() {
        var status = GRPCStatus(.unavailable)
        #expect(status.pushback == nil)
        status.trailers.append("grpc-retry-pushback-ms", "25")
        #expect(status.pushback == .milliseconds(25))
        status.trailers.removeAll("grpc-retry-pushback-ms")
        status.trailers.append("grpc-retry-pushback-ms", "soon")
        #expect(status.pushback == .milliseconds(-1))
    }
}
