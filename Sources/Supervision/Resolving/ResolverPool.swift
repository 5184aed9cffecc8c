// The resolver processes: as many as there are questions that are not answered at once, so that
// a user service or a file system that hangs on one of them delays no other. Knows no start and
// no policy.

import CLinux
import DequeModule
import LinuxIO

/// Asks the host, and says what became of each question. Not thread-safe.
final class ResolverPool {
    /// A question that takes longer is answered as unresponsive.
    static let longestTime: Duration = .seconds(10)
    /// A question that takes longer does not keep others waiting for its resolver.
    static let slowTime: Duration = .milliseconds(10)
    /// A resolver that was not asked for so long ends, but for the last one.
    static let idleTime: Duration = .seconds(60)

    private struct Waiting {
        let question: HostQuestion
        let deadline: Instant
    }

    /// Each is a process of some 300 KiB.
    private let mostResolvers: Int
    private var resolvers: [UInt64: Resolver] = [:]
    private var nextNumber: UInt64 = 1
    private var line: Deque<Waiting> = []
    private var backoff = Backoff(first: .milliseconds(20), largest: .milliseconds(500))
    private var notBefore = Instant(nanoseconds: 0)

    /// Called with each new resolver's descriptor and number, to poll it; returns whether it is.
    var onStart: (Int32, UInt64) -> Bool = { _, _ in false }
    /// Called before a resolver's descriptor is closed.
    var onEnd: (Int32) -> Void = { _ in }

    init(mostResolvers: Int) {
        self.mostResolvers = mostResolvers
    }

    /// The answer comes from `receive` or `advance`.
    func ask(_ question: HostQuestion, now: Instant, control: Int32) {
        line.append(Waiting(question: question, deadline: now + Self.longestTime))
        dispatch(now, control)
    }

    /// The resolver has said something, or has ended.
    func receive(
        _ number: UInt64, now: Instant, control: Int32
    ) -> (HostQuestion, HostAnswer)? {
        guard let resolver = resolvers[number] else { return nil }
        defer { dispatch(now, control) }
        switch resolver.receive() {
        case .nothing:
            return nil
        case .answer(let question, let answer):
            backoff.succeeded()
            return (question, answer)
        case .gone(let question):
            remove(resolver)
            notBefore = max(notBefore, now + backoff.failed())
            return question.map { ($0, .unresponsive) }
        }
    }

    /// Time has passed. Returns the questions that were not answered for too long.
    func advance(to now: Instant, control: Int32) -> [HostQuestion] {
        var late: [HostQuestion] = []
        while let first = line.first, first.deadline <= now {
            line.removeFirst()
            late.append(first.question)
        }
        for resolver in Array(resolvers.values) {
            if let question = resolver.question {
                guard question.askedAt + Self.longestTime <= now else { continue }
                late.append(question.value)
                remove(resolver)
            } else if resolvers.count > 1, resolver.idleSince + Self.idleTime <= now {
                remove(resolver)
            }
        }
        dispatch(now, control)
        return late
    }

    /// When `advance` is to be called next. `canStart`: there is a launcher to fork resolvers.
    func nextDeadline(canStart: Bool) -> Instant? {
        var deadlines: [Instant] = []
        if let first = line.first {
            deadlines.append(first.deadline)
            if canStart, resolvers.count < mostResolvers {
                let asked = resolvers.values.compactMap { $0.question?.askedAt }.max()
                deadlines.append(max(notBefore, asked.map { $0 + Self.slowTime } ?? notBefore))
            }
        }
        for resolver in resolvers.values {
            if let question = resolver.question {
                deadlines.append(question.askedAt + Self.longestTime)
            } else if resolvers.count > 1 {
                deadlines.append(resolver.idleSince + Self.idleTime)
            }
        }
        return deadlines.min()
    }

    /// The launcher, whose children they are, has ended: all of them end with it. Returns the
    /// questions that they had not answered.
    func launcherEnded() -> [HostQuestion] {
        let questions = resolvers.values.compactMap { $0.question?.value }
        for resolver in Array(resolvers.values) { remove(resolver) }
        return questions
    }

    /// Ends all of them, and waits for that, at most until `deadline`. For the supervisor's own end.
    func end(until deadline: Instant) {
        for resolver in resolvers.values { resolver.kill() }
        for resolver in Array(resolvers.values) {
            let end = resolver.endDescriptor
            if end >= 0 { clinux_await_readable(end, max(0, (deadline - .now()).nanoseconds)) }
            remove(resolver)
        }
    }

    private func dispatch(_ now: Instant, _ control: Int32) {
        guard !line.isEmpty, control >= 0 else { return }
        for resolver in Array(resolvers.values) where resolver.question == nil {
            guard let next = line.first else { return }
            if resolver.ask(next.question, now: now) {
                line.removeFirst()
            } else {
                // It has ended, and that is about to be told.
                remove(resolver)
                notBefore = max(notBefore, now + backoff.failed())
            }
        }
        guard !line.isEmpty, now >= notBefore else { return }
        let slow = resolvers.values.count { resolver in
            resolver.question.map { $0.askedAt + Self.slowTime <= now } ?? false
        }
        // While a resolver is about to answer, its turn is waited for.
        guard resolvers.isEmpty || slow == resolvers.count else { return }
        let room = mostResolvers - resolvers.count
        for _ in 0..<min(room, max(1, slow), line.count) {
            guard let resolver = start(now, control), let next = line.first else { return }
            guard resolver.ask(next.question, now: now) else {
                remove(resolver)
                notBefore = now + max(backoff.failed(), Self.slowTime)
                return
            }
            line.removeFirst()
        }
    }

    private func start(_ now: Instant, _ control: Int32) -> Resolver? {
        let number = nextNumber
        guard let resolver = try? Resolver(number: number, control: control, now: now),
            onStart(resolver.descriptor, number)
        else {
            notBefore = now + backoff.failed()
            return nil
        }
        nextNumber += 1
        resolvers[number] = resolver
        return resolver
    }

    private func remove(_ resolver: Resolver) {
        resolver.kill()
        onEnd(resolver.descriptor)
        resolvers[resolver.number] = nil
    }
}
