// What a hostile peer sends for nothing, in raw frames.

import HTTP2
import Testing

@Suite struct GuardTests {
    /// A server that has read the preface and the first SETTINGS.
    private func server(_ limits: HTTP2Limits = HTTP2Limits()) throws -> End {
        var configuration = HTTP2Configuration()
        configuration.limits = limits
        let server = End(.server, configuration)
        try server.receive(RawFrame.preface + RawFrame.settings.bytes)
        return server
    }

    /// The code of the GOAWAY that the server sends, nil where it sends none.
    private func goAway(_ server: End) throws -> HTTP2ErrorCode? {
        let frames = RawFrame.all(in: try server.output())
        guard let frame = frames.last(where: { $0.type == 7 }) else { return nil }
        return HTTP2ErrorCode(
            rawValue: frame.payload[4..<8].reduce(UInt32(0)) { $0 << 8 | UInt32($1) })
    }

    private func flood(
        _ frame: RawFrame, limit: Int, _ kind: HTTP2Flood, opening: [RawFrame] = []
    ) throws {
        let server = try server()
        for frame in opening { try server.receive(frame.bytes) }
        for _ in 0..<limit { try server.receive(frame.bytes) }
        #expect(try goAway(server) == nil)
        for _ in 0..<3 { try? server.receive(frame.bytes) }
        #expect(server.told.contains(.flood(kind)))
        #expect(try goAway(server) == .enhanceYourCalm)
        #expect(server.session.isFinished)
    }

    @Test func aFloodOfPingsIsCutOff() throws {
        try flood(
            RawFrame(type: 6, payload: [UInt8](repeating: 0, count: 8)),
            limit: HTTP2Limits().pings.burst, .pings)
    }

    @Test func aFloodOfSettingsIsCutOff() throws {
        // One was part of the preface.
        try flood(RawFrame.settings, limit: HTTP2Limits().settings.burst - 1, .settings)
    }

    @Test func aFloodOfWindowUpdatesIsCutOff() throws {
        try flood(
            RawFrame(type: 8, payload: [0, 0, 0, 1]), limit: HTTP2Limits().windowUpdates.burst,
            .windowUpdates)
    }

    @Test func aFloodOfEmptyDataIsCutOff() throws {
        try flood(
            RawFrame(type: 0, stream: 1), limit: HTTP2Limits().emptyData.burst, .emptyData,
            opening: [.request(1, ends: false)])
    }

    @Test func aFloodOfPrioritiesIsCutOff() throws {
        try flood(
            RawFrame(type: 2, stream: 1, payload: [0, 0, 0, 0, 9]),
            limit: HTTP2Limits().priorities.burst, .priorities)
    }

    @Test func aFloodOfUnknownFramesIsCutOff() throws {
        try flood(
            RawFrame(type: 0x42, payload: [1, 2, 3]), limit: HTTP2Limits().unknownFrames.burst,
            .unknownFrames)
        try flood(
            RawFrame(type: 0x10, payload: [0, 0, 0, 1]), limit: HTTP2Limits().unknownFrames.burst,
            .unknownFrames)
    }

    @Test func aFloodOfAcknowledgementsThatNobodyAskedForIsCutOff() throws {
        try flood(
            RawFrame(type: 6, flags: 1, payload: [UInt8](repeating: 0, count: 8)),
            limit: HTTP2Limits().pings.burst, .pings)
    }

    @Test func whatComesOnAClosedStreamIsCounted() throws {
        let closing = [
            RawFrame.request(1, ends: false), RawFrame(type: 3, stream: 1, payload: [0, 0, 0, 8]),
        ]
        try flood(
            RawFrame(type: 8, stream: 1, payload: [0, 0, 0, 1]),
            limit: HTTP2Limits().windowUpdates.burst, .windowUpdates, opening: closing)
    }

    @Test func anAnsweredPingIsNoFlood() throws {
        let server = try server()
        for round in 0..<300 {
            server.session.ping(UInt64(round))
            let ping = try #require(
                RawFrame.all(in: try server.output()).first { $0.type == 6 && $0.flags == 0 })
            try server.receive(RawFrame(type: 6, flags: 1, payload: ping.payload).bytes)
            #expect(server.told.last == .pong(UInt64(round)))
        }
    }

    @Test func rapidResetsAreCutOff() throws {
        let server = try server()
        var stream: Int32 = 1
        for _ in 0..<HTTP2Limits().resets.burst {
            try server.receive(
                RawFrame.request(stream).bytes
                    + RawFrame(type: 3, stream: stream, payload: [0, 0, 0, 8]).bytes)
            stream += 2
        }
        #expect(try goAway(server) == nil)
        try server.receive(
            RawFrame.request(stream).bytes
                + RawFrame(type: 3, stream: stream, payload: [0, 0, 0, 8]).bytes)
        #expect(try goAway(server) == .enhanceYourCalm)
        #expect(server.session.openStreams == 0)
    }

    @Test func resetsProvokedFromThisSideAreCutOff() throws {
        let server = try server()
        var stream: Int32 = 1
        var code: HTTP2ErrorCode?
        for _ in 0..<(HTTP2Limits().provokedResets.burst + 5) where code == nil {
            // A window beyond its maximum is an error of the stream.
            try server.receive(
                RawFrame.request(stream, ends: false).bytes
                    + RawFrame(type: 8, stream: stream, payload: [0x7f, 255, 255, 255]).bytes)
            stream += 2
            code = try goAway(server)
        }
        #expect(code == .enhanceYourCalm)
    }

    @Test func aFloodOfContinuationsIsCutOff() throws {
        let server = try server()
        try server.receive(
            RawFrame(type: 1, flags: 1, stream: 1, payload: RawFrame.requestBlock).bytes)
        #expect(throws: HTTP2Error.flooded) {
            for _ in 0...HTTP2Limits().continuations + 1 {
                try server.receive(
                    RawFrame(
                        type: 9, stream: 1, payload: RawFrame.block(["x-filler": "x"])
                    ).bytes)
            }
        }
        #expect(try goAway(server) == .enhanceYourCalm)
    }

    @Test func tokensComeBackWithTime() throws {
        let server = try server()
        let ping = RawFrame(type: 6, payload: [UInt8](repeating: 0, count: 8)).bytes
        for second in 0..<20 {
            server.now = UInt64(second) * 10_000_000_000
            for _ in 0..<100 { try server.receive(ping) }
            #expect(try goAway(server) == nil)
        }
    }

    @Test func aHeaderBlockOf96KiBIsRefusedAndTheConnectionGoesOn() throws {
        let server = try server()
        let filler = String(repeating: "x", count: 12_000)
        var block = RawFrame.requestBlock
        for index in 0..<8 { block += RawFrame.block(["x-filler-\(index)": filler]) }
        var pieces = stride(from: 0, to: block.count, by: 16_000).map {
            Array(block[$0..<min($0 + 16_000, block.count)])
        }
        var bytes = RawFrame(type: 1, flags: 1, stream: 1, payload: pieces.removeFirst()).bytes
        for (index, piece) in pieces.enumerated() {
            let flags: UInt8 = index == pieces.count - 1 ? 4 : 0
            bytes += RawFrame(type: 9, flags: flags, stream: 1, payload: piece).bytes
        }
        try server.receive(bytes)
        #expect(server.streams[1]?.headersOverLimit == true)
        try server.receive(RawFrame.request(3).bytes)
        #expect(server.streams[3]?.headersOverLimit == false)
        #expect(try goAway(server) == nil)
    }

    @Test func headersOnASkippedStreamEndTheConnection() throws {
        let server = try server()
        try server.receive(RawFrame.request(5).bytes)
        try server.receive(RawFrame.request(3).bytes)
        #expect(try goAway(server) == .protocolError)
    }

    @Test(arguments: [
        RawFrame(type: 2, stream: 0, payload: [0, 0, 0, 1, 16]),
        RawFrame(type: 2, stream: 7, payload: [0x80, 0, 0, 7, 16]),
    ])
    func aPriorityOfNothingEndsTheConnection(priority: RawFrame) throws {
        let whole = try server()
        try whole.receive(priority.bytes)
        #expect(try goAway(whole) == .protocolError)
        let inPieces = try server()
        for byte in priority.bytes { try inPieces.receive([byte]) }
        #expect(try goAway(inPieces) == .protocolError)
    }

    @Test func aPriorityOfAnotherStreamIsPassedOver() throws {
        let server = try server()
        try server.receive(RawFrame(type: 2, stream: 7, payload: [0, 0, 0, 5, 16]).bytes)
        #expect(try goAway(server) == nil)
    }

    @Test(arguments: [
        RawFrame(type: 0, flags: 1, stream: 1, payload: [1]), RawFrame.request(1),
    ])
    func nothingFollowsAPeersLastFrame(late: RawFrame) throws {
        let answered = try server()
        try answered.receive(RawFrame.request(1).bytes)
        try #require(answered.streams[1]).respondOnly(.response)
        #expect(try goAway(answered) == nil)
        try answered.receive(late.bytes)
        #expect(try goAway(answered) == .streamClosed)

        let reset = try server()
        try reset.receive(RawFrame.request(1, ends: false).bytes)
        try reset.receive(RawFrame(type: 3, stream: 1, payload: [0, 0, 0, 8]).bytes)
        try reset.receive(late.bytes)
        #expect(try goAway(reset) == .streamClosed)
    }

    @Test func whatCrossesAnEarlyAnswerIsPassedOver() throws {
        let server = try server()
        try server.receive(RawFrame.request(1, ends: false).bytes)
        try #require(server.streams[1]).respondOnly(.response)
        _ = try server.output()
        try server.receive(RawFrame(type: 0, flags: 1, stream: 1, payload: [1]).bytes)
        #expect(try goAway(server) == nil)
    }

    /// A server that allows two streams, with three open.
    private func crowded(acknowledged: Bool) throws -> End {
        var configuration = HTTP2Configuration()
        configuration.maxConcurrentStreams = 2
        let server = End(.server, configuration)
        try server.receive(RawFrame.preface + RawFrame.settings.bytes)
        _ = try server.output()
        if acknowledged { try server.receive(RawFrame(type: 4, flags: 1).bytes) }
        for stream in [1, 3, 5] as [Int32] {
            try server.receive(RawFrame.request(stream, ends: false).bytes)
        }
        return server
    }

    @Test func aStreamTooManyIsRefusedBeforeThePeerKnowsTheLimit() throws {
        let server = try crowded(acknowledged: false)
        let resets = RawFrame.all(in: try server.output()).filter { $0.type == 3 }
        #expect(resets == [RawFrame(type: 3, stream: 5, payload: [0, 0, 0, 7])])
        #expect(server.session.openStreams == 2)
    }

    @Test func aStreamTooManyIsRefusedAloneWhenThePeerKnowsTheLimit() throws {
        let server = try crowded(acknowledged: true)
        let frames = RawFrame.all(in: try server.output())
        #expect(
            frames.filter { $0.type == 3 }
                == [RawFrame(type: 3, stream: 5, payload: [0, 0, 0, 7])])
        #expect(!frames.contains { $0.type == 7 })
        #expect(server.session.openStreams == 2)
    }

    @Test func theLimitOfStreamsIsAnnouncedAsItIs() throws {
        var configuration = HTTP2Configuration()
        configuration.maxConcurrentStreams = 2
        let server = End(.server, configuration)
        let frames = RawFrame.all(in: try server.output())
        let settings = try #require(frames.first { $0.type == 4 }).payload
        let entries = stride(from: 0, to: settings.count, by: 6).map {
            Array(settings[$0..<($0 + 6)])
        }
        #expect(entries.contains([0, 3, 0, 0, 0, 2]))
    }

    @Test func pingsAndWindowUpdatesThatFollowAnswersAreFree() throws {
        let server = try server()
        let ping = RawFrame(type: 6, payload: [UInt8](repeating: 0, count: 8)).bytes
        let update = RawFrame(type: 8, payload: [0, 0, 0, 1]).bytes
        for round in 0..<4000 {
            let id = Int32(round) * 2 + 1
            try server.receive(RawFrame.request(id).bytes + ping + update + update)
            let stream = try #require(server.streams[id])
            stream.respondOnly(.response)
            #expect(try goAway(server) == nil)
        }
    }

    @Test func answersOfResetStreamsDoNotGatherForAPeerThatDoesNotRead() throws {
        let server = try server()
        var stream: Int32 = 1
        while !server.session.isTerminated, stream < 40_000 {
            server.now += 1_000_000_000
            for _ in 0..<100 {
                try server.receive(RawFrame.request(stream).bytes)
                server.streams[stream]?.respondOnly(.response)
                try server.receive(RawFrame(type: 3, stream: stream, payload: [0, 0, 0, 8]).bytes)
                stream += 2
            }
        }
        #expect(server.session.isTerminated)
        #expect(server.told.contains(.flood(.acknowledgements)))
    }

    @Test func aFloodOfPaddedEmptyDataIsCutOff() throws {
        try flood(
            RawFrame(type: 0, flags: 8, stream: 1, payload: [0]),
            limit: HTTP2Limits().emptyData.burst, .emptyData,
            opening: [.request(1, ends: false)])
    }

    @Test func aBurstOfALongConnectionIsNotDoubled() throws {
        let server = try server()
        server.now = 3_600_000_000_000
        let ping = RawFrame(type: 6, payload: [UInt8](repeating: 0, count: 8)).bytes
        for _ in 0..<HTTP2Limits().pings.burst { try server.receive(ping) }
        #expect(try goAway(server) == nil)
        try server.receive(ping)
        #expect(try goAway(server) == .enhanceYourCalm)
        #expect(server.session.isTerminated)
    }

    @Test func aHeaderBombEndsTheConnection() throws {
        let server = try server()
        // An entry of the table with 3000 bytes, then named by its index again and again.
        let value = [UInt8](repeating: 120, count: 3000)
        let entry: [UInt8] = [0x40, 1, 98, 127, 0xb9, 22] + value
        let block = RawFrame.requestBlock + entry + [UInt8](repeating: 0xbe, count: 1000)
        #expect(throws: HTTP2Error.flooded) {
            try server.receive(RawFrame(type: 1, flags: 5, stream: 1, payload: block).bytes)
        }
        #expect(try goAway(server) == .enhanceYourCalm)
    }
}
