// What is not gRPC, GOAWAY and refused streams: with a peer that speaks HTTP/2 by hand.

import GRPCWire
import HTTP2
import NIOCore
import NIOPosix
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(1))) struct PlainHTTPTests {
    /// What every request to the echo begins with.
    private static func post() -> HeaderListBuilder {
        var fields = HeaderListBuilder()
        fields.append(":method", "POST")
        fields.append(":scheme", "http")
        fields.append(":path", "/test.Post/Echo")
        fields.append(":authority", "localhost")
        return fields
    }

    private static func call() -> HeaderListBuilder {
        var fields = post()
        fields.append("content-type", "application/grpc")
        return fields
    }

    @Test(arguments: [
        ("GET", "/healthz", "", "200"), ("GET", "/nothing", "", "404"),
        ("GET", "/healthz?verbose", "", "200"), ("HEAD", "/healthz", "", "200"),
        ("DELETE", "/healthz", "", "405"), ("GET", "/healthzz", "", "404"),
        ("POST", "/test.Post/Nope", "Application/gRPC", "200 12"),
        ("POST", "/test.Post/Nope", "application/grpc+proto; charset=utf-8", "200 12"),
        ("PUT", "/test.Post/Echo", "application/grpc", "405"),
        ("POST", "/test.Post/Echo", "application/json", "415"),
        ("POST", "/test.Post/Echo", "application/grpcx", "415"),
        ("POST", "/test.Post/Nope", "application/grpc", "200 12"),
        ("POST", "/test.Post/Echo", "application/grpc+proto;x=y", "200 12"),
    ])
    func requestsAreToldApart(
        method: String, path: String, type: String, answer: String
    ) async throws {
        try await withServer([CallTests.echo]) { loopback in
            var fields = HeaderListBuilder()
            fields.append(":method", method)
            fields.append(":scheme", "http")
            fields.append(":path", path)
            fields.append(":authority", "localhost")
            if !type.isEmpty { fields.append("content-type", type) }
            let got = try await ManualClient.ask(loopback.target, HeaderList(fields))
            #expect(got == answer)
        }
    }

    @Test func aHeaderThatIsTooLargeIsRefused() async throws {
        try await withServer([CallTests.echo]) { loopback in
            var fields = Self.post()
            for index in 0..<5 {
                fields.append(name: "x-\(index)", value: String(repeating: "x", count: 4000))
            }
            let got = try await ManualClient.ask(loopback.target, HeaderList(fields))
            #expect(got == "431 8")
        }
    }

    @Test(arguments: ["abc", "5x", "123456789S"])
    func aMalformedTimeoutIsInternal(timeout: String) async throws {
        try await withServer([CallTests.echo]) { loopback in
            var fields = Self.call()
            fields.append("grpc-timeout", timeout)
            let got = try await ManualClient.ask(loopback.target, HeaderList(fields))
            #expect(got == "200 13")
        }
    }

    @Test(arguments: ["0S", "0n", "00000000H"])
    func aTimeoutOfNothingHasPassed(timeout: String) async throws {
        let mustNotRun = ServerMethod(Post.echo) { _ in
            Issue.record("a call without time was begun")
        }
        try await withServer([mustNotRun]) { loopback in
            var fields = Self.call()
            fields.append("grpc-timeout", timeout)
            let got = try await ManualClient.ask(loopback.target, HeaderList(fields))
            #expect(got == "200 4")
        }
    }

    @Test func anUnknownEncodingIsUnimplemented() async throws {
        try await withServer([CallTests.echo]) { loopback in
            var fields = Self.call()
            fields.append("grpc-encoding", "snappy")
            let got = try await ManualClient.ask(loopback.target, HeaderList(fields))
            #expect(got == "200 12 identity,gzip")
        }
    }

    @Test func callsThatWereNotProcessedAreRepeatedUnseen() async throws {
        let server = try await ManualServer.start { count in
            count == 1 ? .refuse : count == 2 ? .goAway : .answer
        }
        let channel = GRPCChannel(server.target, group: MultiThreadedEventLoopGroup.singleton)
        let answer = try await channel.unary(Post.echo, Letter("again"))
        #expect(answer == Letter(""))
        #expect(server.requests.load(ordering: .relaxed) == 3)
        await channel.close()
        try await server.channel.close()
    }

    @Test func aServerThatKeepsRefusingIsGivenUp() async throws {
        let server = try await ManualServer.start { _ in .refuse }
        let channel = GRPCChannel(server.target, group: MultiThreadedEventLoopGroup.singleton)
        let thrown = await status { () throws(GRPCStatus) in
            _ = try await channel.unary(Post.echo, Letter("again"))
        }
        #expect(thrown.code == .unavailable)
        #expect(thrown.notProcessed)
        #expect(server.requests.load(ordering: .relaxed) == 3)
        await channel.close()
        try await server.channel.close()
    }

    @Test(arguments: [("503", GRPCCode.unavailable), ("404", .unimplemented), ("418", .unknown)])
    func anAnswerThatIsNotGRPCBecomesAStatus(http: String, code: GRPCCode) async throws {
        let server = try await ManualServer.start { _ in .http(http) }
        let channel = GRPCChannel(server.target, group: MultiThreadedEventLoopGroup.singleton)
        let thrown = await status { () throws(GRPCStatus) in
            _ = try await channel.unary(Post.echo, Letter(""))
        }
        #expect(thrown.code == code)
        await channel.close()
        try await server.channel.close()
    }

    @Test func aResetBecomesAStatus() async throws {
        let server = try await ManualServer.start { _ in .reset(.enhanceYourCalm) }
        let channel = GRPCChannel(server.target, group: MultiThreadedEventLoopGroup.singleton)
        let thrown = await status { () throws(GRPCStatus) in
            _ = try await channel.unary(Post.echo, Letter(""))
        }
        #expect(thrown.code == .resourceExhausted)
        #expect(thrown.isTransport)
        await channel.close()
        try await server.channel.close()
    }

    /// What proxies do when the server behind them goes: said by the transport, not by the server.
    @Test(arguments: [HTTP2ErrorCode.internalError, .cancel, .protocolError])
    func aResetIsTheTransports(code: HTTP2ErrorCode) async throws {
        let server = try await ManualServer.start { _ in .reset(code) }
        let channel = GRPCChannel(server.target, group: MultiThreadedEventLoopGroup.singleton)
        let thrown = await status { () throws(GRPCStatus) in
            _ = try await channel.unary(Post.echo, Letter(""))
        }
        #expect(thrown.isTransport)
        #expect(!thrown.notProcessed)
        #expect(!thrown.isTLSRefusal)
        await channel.close()
        try await server.channel.close()
    }

    @Test func aConnectionThatBreaksWithinAnAnswerIsUnavailable() async throws {
        let server = try await ManualServer.start { _ in .breakOff }
        let channel = GRPCChannel(server.target, group: MultiThreadedEventLoopGroup.singleton)
        let thrown = await status { () throws(GRPCStatus) in
            _ = try await channel.unary(Post.echo, Letter(""))
        }
        #expect(thrown.code == .unavailable)
        #expect(thrown.isTransport)
        #expect(!thrown.notProcessed)
        await channel.close()
        try await server.channel.close()
    }
}
