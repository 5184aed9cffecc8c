// Where a peer stands in its frames, told from their lengths.

import Testing

@testable import HTTP2

@Suite struct FrameTrackerTests {
    private func tracker() -> FrameTracker {
        var tracker = FrameTracker(prefaceBytes: RawFrame.preface.count, now: 1)
        advance(&tracker, RawFrame.preface, now: 1)
        return tracker
    }

    private func advance(_ tracker: inout FrameTracker, _ bytes: [UInt8], now: UInt64) {
        bytes.withUnsafeBytes { tracker.advance(over: $0, now: now) }
    }

    @Test func aPrefaceIsUnfinishedUntilItsLastByte() {
        var tracker = FrameTracker(prefaceBytes: RawFrame.preface.count, now: 1)
        #expect(tracker.unfinishedSince == 1)
        for (index, byte) in RawFrame.preface.enumerated() {
            #expect(tracker.unfinishedSince == 1)
            advance(&tracker, [byte], now: UInt64(index + 2))
        }
        #expect(tracker.unfinishedSince == nil)
    }

    @Test func aFrameIsUnfinishedUntilItsLastByte() {
        var tracker = tracker()
        let frame = RawFrame(type: 6, payload: [UInt8](repeating: 0, count: 8)).bytes
        for start: UInt64 in [10, 100] {
            for (index, byte) in frame.enumerated() {
                advance(&tracker, [byte], now: start + UInt64(index))
                #expect(tracker.unfinishedSince == (index == 16 ? nil : start))
            }
        }
        advance(&tracker, frame + frame.prefix(12), now: 200)
        #expect(tracker.unfinishedSince == 200)
        advance(&tracker, frame.dropFirst(12) + frame, now: 201)
        #expect(tracker.unfinishedSince == nil)
    }

    @Test func continuationsDoNotMakeAHeaderYounger() {
        var tracker = tracker()
        advance(&tracker, RawFrame(type: 1, flags: 1, stream: 1, payload: [1, 2]).bytes, now: 5)
        #expect(tracker.unfinishedSince == 5)
        advance(&tracker, RawFrame(type: 9, stream: 1, payload: [3]).bytes, now: 6)
        #expect(tracker.unfinishedSince == 5)
        advance(&tracker, RawFrame(type: 9, flags: 4, stream: 1, payload: [4]).bytes, now: 7)
        #expect(tracker.unfinishedSince == nil)
    }

    @Test func dataIsAsYoungAsItsLastByte() {
        var tracker = tracker()
        let frame = RawFrame(type: 0, stream: 1, payload: [UInt8](repeating: 0, count: 100)).bytes
        advance(&tracker, Array(frame.prefix(50)), now: 5)
        #expect(tracker.unfinishedSince == 5)
        advance(&tracker, Array(frame.dropFirst(50).prefix(10)), now: 9)
        #expect(tracker.unfinishedSince == 9)
        advance(&tracker, Array(frame.dropFirst(60)), now: 10)
        #expect(tracker.unfinishedSince == nil)
    }

    @Test func framesThatTheCodecPassesOverAreCounted() {
        var tracker = tracker()
        let frames = [
            RawFrame(type: 0x10, payload: [1]), RawFrame(type: 200), RawFrame(type: 0, stream: 1),
            RawFrame(type: 0, flags: 1, stream: 1), RawFrame(type: 8, payload: [0, 0, 0, 1]),
        ]
        advance(&tracker, frames.flatMap(\.bytes), now: 5)
        #expect(tracker.unknownFrames == 2)
        #expect(tracker.emptyData == 1)
        tracker.forgetCounts()
        #expect(tracker.unknownFrames == 0)
    }
}
