// Lines on their way to a descriptor: what is kept, what is dropped, and how they are cut.

import Glibc
import Testing

@testable import procgate

@Suite("Lines")
struct LineTests {
    /// Which of `lines` a queue keeps.
    private func added(_ lines: [String], to queue: inout LineQueue) -> [Bool] {
        lines.map { queue.add($0) }
    }

    /// What a queue hands out: its lines, and how many are missing behind them.
    private func taken(from queue: inout LineQueue) -> (text: String, dropped: Int) {
        var buffer: [UInt8] = []
        let dropped = queue.take(into: &buffer)
        return (String(decoding: buffer, as: UTF8.self), dropped)
    }

    @Test("Lines are dropped from the first that finds no room to the next taking")
    func dropping() {
        var queue = LineQueue(limitBytes: 10)
        // The third would fit, and would stand where the gap is.
        let kept = added(["one", "too long", "x"], to: &queue)
        #expect(kept == [true, false, false])
        let first = taken(from: &queue)
        #expect(first.text == "one\n")
        #expect(first.dropped == 2)
        let keptThen = added(["x"], to: &queue)
        #expect(keptThen == [true])
        let second = taken(from: &queue)
        #expect(second.text == "x\n")
        #expect(second.dropped == 0)
    }

    @Test("A line that is longer than the queue is kept if it is the only one")
    func longLine() {
        var queue = LineQueue(limitBytes: 4)
        let kept = added(["longer", ""], to: &queue)
        #expect(kept == [true, false])
    }

    @Test("Lines that could not be written are announced with the next")
    func givenBack() {
        var queue = LineQueue(limitBytes: 100)
        queue.addDropped(3)
        let kept = added(["late"], to: &queue)
        #expect(kept == [false])
        let first = taken(from: &queue)
        #expect(first.text == "")
        #expect(first.dropped == 4)
    }

    @Test(
        "A write has whole lines up to its limit, or one that is longer",
        arguments: [
            ("a\nbb\n", 10, 5), ("a\nbb\n", 5, 5), ("a\nbb\n", 4, 2), ("aaaa\nb\n", 3, 5),
            ("aaaa", 2, 4),
        ])
    func pieces(text: String, limit: Int, count: Int) {
        #expect(LinePieces.count(of: Array(text.utf8)[...], limit: limit) == count)
    }

    @Test("Pieces are cut from where the last one ended")
    func slices() {
        let bytes = Array("a\nbb\nccc\n".utf8)
        #expect(LinePieces.count(of: bytes[2...], limit: 4) == 3)
        #expect(LinePieces.lineCount(of: bytes[5...]) == 4)
        #expect(LinePieces.lines(in: bytes[2...]) == 2)
    }

    @Test("What is added is written in order, before the end")
    func writing() throws {
        var ends: [Int32] = [-1, -1]
        try #require(pipe(&ends) == 0)
        let writer = LineWriter(descriptor: ends[1]) { "\($0)" }
        for number in 0..<1_000 { writer.add("line \(number)") }
        writer.end(within: 10_000_000_000)
        close(ends[1])
        var text: [UInt8] = []
        var bytes = [UInt8](repeating: 0, count: 4_096)
        while case let count = read(ends[0], &bytes, bytes.count), count > 0 {
            text += bytes[..<count]
        }
        close(ends[0])
        #expect(text == Array((0..<1_000).map { "line \($0)\n" }.joined().utf8))
        #expect(writer.dropped == 0)
    }

    @Test("A reader that is gone costs the lines, and the end does not wait for it")
    func brokenPipe() throws {
        signal(SIGPIPE, SIG_IGN)
        var ends: [Int32] = [-1, -1]
        try #require(pipe(&ends) == 0)
        close(ends[0])
        let writer = LineWriter(descriptor: ends[1]) { "\($0)" }
        for _ in 0..<10 { writer.add("lost") }
        writer.end(within: 10_000_000_000)
        close(ends[1])
        #expect(writer.dropped == 10)
    }

    @Test("Requests for a reload that come during one are answered by one more")
    func reloads() {
        var reloads = PendingReloads()
        let requests = [reloads.request(), reloads.request(), reloads.request()]
        #expect(requests == [true, false, false])
        let ends = [reloads.finish(), reloads.finish()]
        #expect(ends == [true, false])
        let later = reloads.request()
        #expect(later)
    }
}
