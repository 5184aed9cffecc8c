// SIGTERM, SIGINT and SIGHUP as a sequence: blocked in every thread, and taken by one
// that waits for them.

import Glibc
import Synchronization

/// The signals that end or reload the gateway.
final class EndSignals: Sendable {
    enum Signal: Sendable {
        case reload
        case end
    }

    private let events: AsyncStream<Signal>
    private let continuation: AsyncStream<Signal>.Continuation

    /// Blocks the signals in this thread and in all that it will start. To be called
    /// before there is another one.
    static func block() {
        signal(SIGPIPE, SIG_IGN)
        var set = Self.set
        pthread_sigmask(SIG_BLOCK, &set, nil)
    }

    /// Takes the signals that were blocked.
    init() {
        // Four are more than anybody means: a reload, an end, an end at once.
        (events, continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(4))
        let continuation = continuation
        Self.startThread {
            var set = Self.set
            var number: Int32 = 0
            while sigwait(&set, &number) == 0 {
                continuation.yield(number == SIGHUP ? .reload : .end)
            }
        }
    }

    func stream() -> AsyncStream<Signal> { events }

    /// Ends the sequence.
    func finish() { continuation.finish() }

    private static var set: sigset_t {
        var set = sigset_t()
        sigemptyset(&set)
        for number in [SIGTERM, SIGINT, SIGHUP] { sigaddset(&set, number) }
        return set
    }

    private static func startThread(_ body: @escaping @Sendable () -> Void) {
        var thread = pthread_t()
        let box = Unmanaged.passRetained(Body(body))
        let status = pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                Unmanaged<Body>.fromOpaque(argument).takeRetainedValue().run()
                return nil
            }, box.toOpaque())
        guard status == 0 else {
            box.release()
            return
        }
        pthread_detach(thread)
    }

    private final class Body: Sendable {
        let run: @Sendable () -> Void

        init(_ run: @escaping @Sendable () -> Void) {
            self.run = run
        }
    }
}
