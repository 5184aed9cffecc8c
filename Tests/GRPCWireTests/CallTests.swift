// Calls of all four kinds between this package's own client and server.

import GRPCWire
import NIOCore
import Testing

@Suite struct CallTests {
    static let echo = ServerMethod.unary(Post.echo) { letter, _ in letter }
    static let count = ServerMethod(Post.count) { call in
        let request = try await call.request(Letter.self)
        for index in 0..<Int(request.value[0]) {
            try await call.send(Letter("\(index)", bytes: request.value))
        }
    }
    static let join = ServerMethod(Post.join) { call in
        var joined = ""
        while let letter = try await call.next(Letter.self) { joined += letter.typeUrl }
        try await call.send(Letter(joined))
    }
    static let chat = ServerMethod(Post.chat) { call in
        while let letter = try await call.next(Letter.self) { try await call.send(letter) }
    }

    @Test func aUnaryCallIsAnswered() async throws {
        try await withChannel([Self.echo]) { channel in
            let answer = try await channel.unary(Post.echo, Letter("hello", bytes: [1, 2, 3]))
            #expect(answer == Letter("hello", bytes: [1, 2, 3]))
        }
    }

    @Test func manyCallsShareOneConnection() async throws {
        try await withServer([Self.echo]) { loopback in
            // A machine that is slow enough is no reason for a second one.
            var options = GRPCChannelOptions()
            options.mostConnections = 1
            let channel = loopback.makeChannel(options)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for index in 0..<2000 {
                    group.addTask {
                        let answer = try await channel.unary(Post.echo, Letter("\(index)"))
                        #expect(answer.typeUrl == "\(index)")
                    }
                }
                try await group.waitForAll()
            }
            #expect(loopback.server.openConnections == 1)
            await channel.close()
        }
    }

    @Test func messagesLargerThanEveryWindowPass() async throws {
        try await withChannel([Self.echo]) { channel in
            let large = [UInt8](repeating: 9, count: 9_000_000)
            let answer = try await channel.unary(Post.echo, Letter("large", bytes: large))
            #expect(answer.value == large)
        }
    }

    @Test func aServerStreamArrivesInOrder() async throws {
        try await withChannel([Self.count]) { channel in
            var received: [String] = []
            for try await letter in channel.serverStreaming(
                Post.count, Letter("", bytes: [200] + [UInt8](repeating: 1, count: 20_000)))
            {
                received.append(letter.typeUrl)
            }
            #expect(received == (0..<200).map(String.init))
        }
    }

    @Test func aClientStreamIsAnsweredOnce() async throws {
        try await withChannel([Self.join]) { channel in
            let call = channel.clientStreaming(Post.join)
            for index in 0..<100 { try await call.send(Letter("\(index) ")) }
            let answer = try await call.response()
            #expect(answer.typeUrl == (0..<100).map { "\($0) " }.joined())
        }
    }

    @Test func bothSidesTalkInTurn() async throws {
        try await withChannel([Self.chat]) { channel in
            let call = channel.bidirectional(Post.chat)
            var answers = call.responses.makeAsyncIterator()
            for index in 0..<50 {
                try await call.send(Letter("\(index)", bytes: .init(repeating: 0, count: index)))
                let answer = try await answers.next()
                #expect(answer?.typeUrl == "\(index)")
            }
            call.halfClose()
            let end = try await answers.next()
            #expect(end == nil)
        }
    }

    @Test func aCallWithoutMessagesIsOK() async throws {
        try await withChannel([Self.chat]) { channel in
            let call = channel.bidirectional(Post.chat)
            call.halfClose()
            var answers = call.responses.makeAsyncIterator()
            let end = try await answers.next()
            #expect(end == nil)
        }
    }
}
