// What a request may be made of where the codec does not say so: on unix sockets.

import HTTP2
import Testing

@Suite struct RequestRulesTests {
    private static let request: [(String, String)] = [
        (":method", "POST"), (":scheme", "http"), (":path", "/test/Method"),
        (":authority", "/run/procgate/api.sock"), ("te", "trailers"),
    ]

    private func server() throws -> End {
        var configuration = HTTP2Configuration()
        configuration.acceptsPathAsAuthority = true
        let server = End(.server, configuration)
        try server.receive(RawFrame.preface + RawFrame.settings.bytes)
        _ = try server.output()
        server.forget()
        return server
    }

    private func block(_ fields: [(String, String)]) -> [UInt8] {
        func text(_ text: String) -> [UInt8] { [UInt8(text.utf8.count)] + text.utf8 }
        return fields.reduce(into: []) { block, field in
            block += [0]
            block += text(field.0)
            block += text(field.1)
        }
    }

    /// Whether the request reaches the layer above, with its body and trailers.
    private func isAccepted(
        _ fields: [(String, String)], body: [UInt8]? = nil, trailers: [(String, String)]? = nil
    ) throws -> Bool {
        let server = try server()
        let endsAtOnce = body == nil && trailers == nil
        try server.receive(
            RawFrame(
                type: 1, flags: endsAtOnce ? 5 : 4, stream: 1, payload: block(fields)
            ).bytes)
        if let body {
            try server.receive(
                RawFrame(type: 0, flags: trailers == nil ? 1 : 0, stream: 1, payload: body).bytes)
        }
        if let trailers {
            try server.receive(
                RawFrame(type: 1, flags: 5, stream: 1, payload: block(trailers)).bytes)
        }
        let reset = try RawFrame.all(in: server.output()).first { $0.type == 3 }
        if let reset {
            #expect(reset.payload == [0, 0, 0, 1], "not PROTOCOL_ERROR")
            return false
        }
        return server.told.contains(.end(1))
    }

    private func with(_ name: String, _ value: String?) -> [(String, String)] {
        Self.request.compactMap { field in
            guard field.0 == name else { return field }
            return value.map { (name, $0) }
        }
    }

    @Test(arguments: [
        "/run/procgate/api.sock", "%2Frun%2Fapi.sock", "localhost", "a@b:1", "unix:/x?y#z",
    ])
    func anAuthorityMayBeAPath(authority: String) throws {
        #expect(try isAccepted(with(":authority", authority)))
    }

    @Test(arguments: [
        (":authority", "a b"), (":authority", ""), (":path", ""), (":path", "x"),
        (":method", "P OST"), (":scheme", "h:"), ("te", "gzip"),
    ])
    func aValueThatIsMalformedIsRefused(name: String, value: String) throws {
        #expect(try !isAccepted(with(name, value)))
    }

    @Test(arguments: [":method", ":scheme", ":path", ":authority"])
    func whatARequestNeedsIsThereOnce(name: String) throws {
        #expect(try !isAccepted(with(name, nil)))
        let again = Self.request.first { $0.0 == name }!
        #expect(try !isAccepted([again] + Self.request))
    }

    @Test func aHostWillDoForAnAuthority() throws {
        #expect(try isAccepted(with(":authority", nil) + [("host", "/run/x")]))
    }

    @Test(arguments: [
        ("Upper", "1"), ("connection", "close"), ("transfer-encoding", "chunked"),
        ("upgrade", "x"), ("keep-alive", "1"), ("proxy-connection", "1"), (":unknown", "1"),
        (":path", "/late"), ("content-length", "x"), ("", "1"),
    ])
    func aFieldThatMustNotBeIsRefused(name: String, value: String) throws {
        #expect(try !isAccepted(Self.request + [(name, value)]))
    }

    @Test func aFieldOfOtherCharactersIsPassedOver() throws {
        let server = try server()
        let fields = Self.request + [("x-bad", "a\u{1}b"), ("x y", "1"), ("x-good", "a b")]
        try server.receive(
            RawFrame(type: 1, flags: 5, stream: 1, payload: block(fields)).bytes)
        let lines = try #require(server.streams[1]?.headers?.lines)
        #expect(lines.contains("x-good=a b"))
        #expect(!lines.contains { $0.hasPrefix("x-bad") || $0.hasPrefix("x y") })
    }

    @Test func aBodyIsAsLongAsItSays() throws {
        let fields = Self.request + [("content-length", "3")]
        #expect(try isAccepted(fields, body: [1, 2, 3]))
        #expect(try !isAccepted(fields, body: [1, 2]))
        #expect(try !isAccepted(fields, body: [1, 2, 3, 4]))
        #expect(try !isAccepted(fields))
    }

    @Test func trailersHaveNoPseudoFields() throws {
        #expect(try isAccepted(Self.request, body: [1], trailers: [("x-end", "1")]))
        #expect(try !isAccepted(Self.request, body: [1], trailers: [(":path", "/x")]))
    }
}
