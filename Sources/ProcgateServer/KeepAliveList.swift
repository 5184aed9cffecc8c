// Sends something on streams that were idle, so that proxies keep them open: one timer
// for all streams of a loop, since a thousand idle ones must cost next to nothing.

import NIOCore

/// A stream that wants to be told when it was idle for the interval.
protocol KeptAlive: AnyObject {
    /// When it last sent something.
    var lastActivity: NIODeadline { get }
    /// It was idle for the interval.
    func sendKeepAlive()
}

/// Confined to its event loop.
final class KeepAliveList {
    private let eventLoop: any EventLoop
    private let interval: TimeAmount
    private var streams: [ObjectIdentifier: any KeptAlive] = [:]
    private var timer: RepeatedTask?

    /// - Parameter interval: 0 sends nothing.
    init(eventLoop: any EventLoop, interval: TimeAmount) {
        self.eventLoop = eventLoop
        self.interval = interval
    }

    func add(_ stream: any KeptAlive) {
        guard interval > .zero else { return }
        streams[ObjectIdentifier(stream)] = stream
        guard timer == nil else { return }
        // A stream may so be idle for a quarter more than the interval.
        let step = TimeAmount.nanoseconds(max(interval.nanoseconds / 4, 1_000_000))
        let list = NIOLoopBound(self, eventLoop: eventLoop)
        timer = eventLoop.scheduleRepeatedTask(initialDelay: step, delay: step) { _ in
            list.value.tick()
        }
    }

    func remove(_ stream: any KeptAlive) {
        streams[ObjectIdentifier(stream)] = nil
        guard streams.isEmpty else { return }
        timer?.cancel()
        timer = nil
    }

    private func tick() {
        let due = NIODeadline.now() - interval
        for stream in streams.values where stream.lastActivity <= due { stream.sendKeepAlive() }
    }
}
