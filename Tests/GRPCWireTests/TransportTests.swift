// TLS, unix sockets, keep-alive, and what connections are held to.

import GRPCWire
import Glibc
import HTTP2
import NIOCore
import NIOPosix
import NIOSSL
import Protobuf
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(1))) struct TransportTests {
    /// Tells who calls: "subject|uid|is TLS".
    static let whoAmI = ServerMethod.unary(Post.echo) { _, call in
        let peer = call.peer
        let user = peer.unix.map { String($0.userID) } ?? "-"
        return Letter(
            "\(peer.certificate?.distinguishedName ?? "-")|\(user)|\(peer.isTLS)")
    }

    private func serve<R: Sendable>(
        _ listeners: [Listener], configuration: ServerConfiguration = ServerConfiguration(),
        _ body: (GRPCServer) async throws -> R
    ) async throws -> R {
        let server = try await GRPCServer.start(
            listeners, configuration: configuration, group: MultiThreadedEventLoopGroup.singleton
        ) { _ in ServiceRouter([Self.whoAmI]) }
        let result: Result<R, any Error>
        do { result = .success(try await body(server)) } catch { result = .failure(error) }
        await server.stopNow()
        return try result.get()
    }

    private func ask(_ target: GRPCTarget, _ tls: ClientTLS = ClientTLS()) async throws -> String {
        var options = GRPCChannelOptions()
        options.tls = tls
        let channel = GRPCChannel(
            target, options: options, group: MultiThreadedEventLoopGroup.singleton)
        let result: Result<Letter, any Error>
        do {
            result = .success(try await channel.unary(Post.echo, Letter("")))
        } catch {
            result = .failure(error)
        }
        await channel.close()
        return try result.get().typeUrl
    }

    private func material(
        _ certificate: String = Certificates.server, _ key: String = Certificates.serverKey,
        clientRoots: Bool = false
    ) throws -> ServerTLS.Material {
        ServerTLS.Material(
            certificates: [try Certificates.certificate(certificate)],
            key: try Certificates.key(key),
            clientRoots: clientRoots
                ? [try Certificates.certificate(Certificates.authority)] : nil)
    }

    private func trusting(withCertificate: Bool = false) throws -> ClientTLS {
        var tls = ClientTLS()
        tls.roots = [try Certificates.certificate(Certificates.authority)]
        if withCertificate {
            tls.certificates = [try Certificates.certificate(Certificates.client)]
            tls.key = try Certificates.key(Certificates.clientKey)
        }
        return tls
    }

    private func port(_ server: GRPCServer, _ index: Int = 0) -> Int {
        guard case .tcp(_, let port) = server.addresses[index] else { return 0 }
        return port
    }

    @Test func aCallPassesThroughTLS() async throws {
        let tls = try ServerTLS(material())
        try await serve([Listener(.tcp(host: "127.0.0.1", port: 0), tls: tls)]) { server in
            let byAddress = try await ask(
                .https(host: "127.0.0.1", port: port(server)), trusting())
            #expect(byAddress == "-|-|true")
            let byName = try await ask(.https(host: "localhost", port: port(server)), trusting())
            #expect(byName == "-|-|true")
        }
    }

    @Test func aServerThatIsNotTrustedIsRefused() async throws {
        let tls = try ServerTLS(material(Certificates.second, Certificates.secondKey))
        try await serve([Listener(.tcp(host: "127.0.0.1", port: 0), tls: tls)]) { server in
            var wrongName = try trusting()
            wrongName.serverName = "example.org"
            let noName = try trusting()
            for (client, cause) in [
                (ClientTLS(), "no root that is trusted here"), (wrongName, "another host name"),
                (noName, "another host name"),
            ] {
                let refused = await #expect(throws: GRPCStatus.self, "\(cause)") {
                    _ = try await ask(.https(host: "127.0.0.1", port: port(server)), client)
                }
                #expect(refused?.code == .permissionDenied)
                #expect(refused?.isTLSRefusal == true)
                #expect(refused?.notProcessed == true)
                #expect(refused?.message.contains(cause) == true)
            }
        }
    }

    @Test func aClientCertificateNamesTheCaller() async throws {
        let tls = try ServerTLS(material(clientRoots: true))
        try await serve([Listener(.tcp(host: "127.0.0.1", port: 0), tls: tls)]) { server in
            let target = GRPCTarget.https(host: "127.0.0.1", port: port(server))
            let known = try await ask(target, trusting(withCertificate: true))
            #expect(known == "O=Example,CN=alice|-|true")
            // The server's reset may overtake what TLS had to say: the next try is told.
            var unknown: GRPCStatus?
            repeat {
                unknown = await #expect(throws: GRPCStatus.self) {
                    _ = try await ask(target, trusting())
                }
            } while unknown?.code == .unavailable
            #expect(unknown?.code == .unauthenticated)
            #expect(unknown?.isTLSRefusal == true)
            #expect(unknown?.message.contains("demands a client certificate") == true)
        }
    }

    /// The cause is told to those too that come while it is waited for another try.
    @Test func theCauseIsToldToEveryCall() async throws {
        let tls = try ServerTLS(material())
        try await serve([Listener(.tcp(host: "127.0.0.1", port: 0), tls: tls)]) { server in
            var options = GRPCChannelOptions()
            options.firstBackoff = .seconds(60)
            options.longestBackoff = .seconds(60)
            let channel = GRPCChannel(
                .https(host: "127.0.0.1", port: port(server)), options: options,
                group: MultiThreadedEventLoopGroup.singleton)
            for waitForReady in [false, false, true] {
                let refused = await status { () throws(GRPCStatus) in
                    _ = try await channel.unary(
                        Post.echo, Letter(""), options: CallOptions(waitForReady: waitForReady))
                }
                #expect(refused.message.contains("is not trusted"))
            }
            await channel.close()
        }
    }

    @Test func aNewCertificateServesNewConnections() async throws {
        let tls = try ServerTLS(material())
        try await serve([Listener(.tcp(host: "127.0.0.1", port: 0), tls: tls)]) { server in
            var options = GRPCChannelOptions()
            options.tls = try trusting()
            let channel = GRPCChannel(
                .https(host: "127.0.0.1", port: port(server)), options: options,
                group: MultiThreadedEventLoopGroup.singleton)
            _ = try await channel.unary(Post.echo, Letter(""))
            try tls.replace(with: material(Certificates.second, Certificates.secondKey))
            _ = try await channel.unary(Post.echo, Letter(""))
            #expect(server.openConnections == 1)
            // The new one names no address.
            await #expect(throws: GRPCStatus.self) {
                _ = try await ask(.https(host: "127.0.0.1", port: port(server)), trusting())
            }
            _ = try await ask(.https(host: "localhost", port: port(server)), trusting())
            await channel.close()
        }
    }

    @Test func severalListenersServeAtOnce() async throws {
        let path = "/tmp/grpcwire-test-\(getpid()).sock"
        try await serve([
            Listener(.tcp(host: "127.0.0.1", port: 0)), Listener(.tcp(host: "::1", port: 0)),
            Listener(.unix(path: path)),
        ]) { server in
            let version4 = try await ask(.http(host: "127.0.0.1", port: port(server)))
            #expect(version4 == "-|-|false")
            let version6 = try await ask(.http(host: "::1", port: port(server, 1)))
            #expect(version6 == "-|-|false")
            let unix = try await ask(.unix(path: path))
            #expect(unix == "-|\(getuid())|false")
        }
        #expect(access(path, F_OK) != 0)
    }

    @Test func tooManyConnectionsAreRefused() async throws {
        var configuration = ServerConfiguration()
        configuration.limits.connections = 1
        try await serve(
            [Listener(.tcp(host: "127.0.0.1", port: 0))], configuration: configuration
        ) { server in
            let target = GRPCTarget.http(host: "127.0.0.1", port: port(server))
            let first = GRPCChannel(target, group: MultiThreadedEventLoopGroup.singleton)
            _ = try await first.unary(Post.echo, Letter(""))
            await #expect(throws: GRPCStatus.self) { _ = try await ask(target) }
            _ = try await first.unary(Post.echo, Letter(""))
            await first.close()
        }
    }

    @Test func aSilentPeerIsFoundByBothSides() async throws {
        let closed = Signal<String?>()
        var configuration = ServerConfiguration()
        configuration.limits.keepAliveInterval = .milliseconds(40)
        configuration.limits.keepAliveTimeout = .milliseconds(40)
        configuration.connectionObserver = { event in
            if case .closed(_, let reason) = event { closed.send(reason) }
        }
        try await serve(
            [Listener(.tcp(host: "127.0.0.1", port: 0))], configuration: configuration
        ) { server in
            // Speaks HTTP/2 once, and never again.
            let mute = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .connect(host: "127.0.0.1", port: port(server)).get()
            // On a busy machine it may have been closed already.
            try? await mute.writeAndFlush(
                ByteBuffer(string: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0"))
            #expect(await closed.next() == "no answer to a keep-alive")
            try? await mute.close()
        }
        // A server that accepts and says nothing.
        let silent = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .bind(host: "127.0.0.1", port: 0).get()
        var options = GRPCChannelOptions()
        options.keepAliveInterval = .milliseconds(40)
        options.keepAliveTimeout = .milliseconds(40)
        let channel = GRPCChannel(
            .http(host: "127.0.0.1", port: silent.localAddress?.port ?? 0), options: options,
            group: MultiThreadedEventLoopGroup.singleton)
        let lost = await status { () throws(GRPCStatus) in
            _ = try await channel.unary(Post.echo, Letter(""))
        }
        #expect(lost.code == .unavailable)
        #expect(lost.isTransport)
        await channel.close()
        try await silent.close()
    }

    @Test func anIdleConnectionIsClosedAndOpenedAgain() async throws {
        var options = GRPCChannelOptions()
        options.idleTimeout = .milliseconds(30)
        let closed = Signal<Void>()
        var configuration = ServerConfiguration()
        configuration.connectionObserver = { event in
            if case .closed = event { closed.send(()) }
        }
        try await withChannel([CallTests.echo], configuration: configuration, options: options) {
            channel in
            for _ in 0..<3 {
                _ = try await channel.unary(Post.echo, Letter(""))
                await closed.next()
            }
        }
    }

    @Test func aRequestThatDoesNotEndIsCutOff() async throws {
        var configuration = ServerConfiguration()
        configuration.limits.requestTime = .milliseconds(50)
        try await withChannel([CallTests.echo], configuration: configuration) { channel in
            let slow = MethodDescriptorOf.streaming(Post.echo)
            let call = channel.clientStreaming(slow)
            let thrown = await status { () throws(GRPCStatus) in
                var answers = call.responses.makeAsyncIterator()
                _ = try await answers.next()
            }
            #expect(thrown.message == "the request was not complete in time")
        }
    }

    @Test func oneMessageTooFewOrTooManyIsUnimplemented() async throws {
        try await withChannel([CallTests.echo]) { channel in
            for count in [0, 2] {
                let call = channel.clientStreaming(MethodDescriptorOf.streaming(Post.echo))
                for _ in 0..<count { try await call.send(Letter("")) }
                let thrown = await status { () throws(GRPCStatus) in
                    _ = try await call.response()
                }
                #expect(thrown.code == .unimplemented)
            }
        }
    }
}

enum MethodDescriptorOf {
    /// The same path, called as a stream.
    static func streaming(
        _ method: MethodDescriptor<Letter, Letter>
    ) -> MethodDescriptor<Letter, Letter> {
        MethodDescriptor(
            service: method.service, name: method.name, path: method.path, kind: .clientStreaming)
    }
}
