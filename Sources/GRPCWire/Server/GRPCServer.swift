// Listens, makes connections, and ends them in order. Knows which channel handlers there are.

public import NIOCore
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif

/// A gRPC server. It runs from ``start(_:configuration:group:makeRouter:)`` to the end of
/// ``drain(timeout:)`` or ``stopNow()``.
public final class GRPCServer: Sendable {
    /// The addresses it listens on, ports resolved, in the order of the listeners.
    public let addresses: [ListenAddress]

    private let listening: [any Channel]
    private let sockets: [SocketFile]
    private let services: [LoopServices]
    private let population: Population

    private init(
        addresses: [ListenAddress], listening: [any Channel], sockets: [SocketFile],
        services: [LoopServices], population: Population
    ) {
        self.addresses = addresses
        self.listening = listening
        self.sockets = sockets
        self.services = services
        self.population = population
    }

    /// Binds all listeners.
    /// - Parameter makeRouter: called once on each event loop, before the first connection.
    /// - Throws: the system's error for an address that cannot be bound; none is bound then.
    public static func start(
        _ listeners: [Listener], configuration: ServerConfiguration,
        group: any EventLoopGroup,
        makeRouter: @escaping @Sendable (any EventLoop) -> ServiceRouter
    ) async throws -> GRPCServer {
        var configuration = configuration
        configuration.http2.volatileField = "grpc-timeout"
        let settled = configuration
        let memory = makeMemory(configuration, group)
        var services: [LoopServices] = []
        for loop in group.makeIterator() {
            services.append(
                try await loop.submit {
                    LoopServices(
                        loop, router: makeRouter(loop), configuration: settled, memory: memory)
                }.get())
        }
        let population = Population(limit: configuration.limits.connections)
        let acceptor = Acceptor(
            services: Dictionary(
                uniqueKeysWithValues: services.map { (ObjectIdentifier($0.eventLoop), $0) }),
            configuration: configuration, population: population)
        var channels: [any Channel] = []
        var sockets: [SocketFile] = []
        do {
            for listener in listeners {
                channels.append(try await acceptor.bind(listener, group: group))
                if case .unix(let path) = listener.address, let socket = SocketFile(at: path) {
                    sockets.append(socket)
                }
            }
        } catch {
            for socket in sockets { socket.remove() }
            for channel in channels { try? await channel.close() }
            throw error
        }
        let addresses = zip(channels, listeners).map { channel, listener in
            guard case .tcp = listener.address, let bound = channel.localAddress,
                let host = bound.ipAddress, let port = bound.port
            else { return listener.address }
            return ListenAddress.tcp(host: host, port: port)
        }
        return GRPCServer(
            addresses: addresses, listening: channels, sockets: sockets, services: services,
            population: population)
    }

    private static func makeMemory(
        _ configuration: ServerConfiguration, _ group: any EventLoopGroup
    ) -> BufferMemory {
        guard let observer = configuration.memoryObserver else {
            return BufferMemory(limitBytes: configuration.limits.memoryBytes)
        }
        let loop = group.next()
        return BufferMemory(limitBytes: configuration.limits.memoryBytes) { memory in
            // Whoever has released it has let go of it by then.
            loop.scheduleTask(in: .seconds(1)) {
                if memory.shouldReturnNow() { observer() }
            }
        }
    }

    /// Connections open now.
    public var openConnections: Int { population.count }

    /// Takes no new connections and no new calls, and lets those that run go on for `timeout`;
    /// then ends them. Returns when no connection is left.
    public func drain(timeout: TimeAmount) async {
        await closeListeners()
        for loop in services { loop.eventLoop.execute { loop.drain() } }
        let gone = population.whenEmpty(services[0].eventLoop)
        let timer = services[0].eventLoop.scheduleTask(in: timeout) { self.stopCalls() }
        try? await gone.get()
        timer.cancel()
    }

    /// Ends all calls and connections now. May be called during ``drain(timeout:)``.
    public func stopNow() async {
        await closeListeners()
        stopCalls()
        try? await population.whenEmpty(services[0].eventLoop).get()
    }

    private func stopCalls() {
        for loop in services { loop.eventLoop.execute { loop.stop() } }
    }

    private func closeListeners() async {
        if listening.contains(where: { $0.isActive }) {
            for socket in sockets { socket.remove() }
        }
        for channel in listening { try? await channel.close() }
    }
}

/// How many connections there are, on all loops together.
final class Population: Sendable {
    private struct State {
        var count = 0
        var waiting: [EventLoopPromise<Void>] = []
    }

    private let limit: Int
    private let state = Mutex(State())

    init(limit: Int) {
        self.limit = limit
    }

    var count: Int { state.withLock { $0.count } }

    /// False where there are too many already.
    func enter() -> Bool {
        state.withLock { state in
            guard state.count < limit else { return false }
            state.count += 1
            return true
        }
    }

    func leave() {
        let ready = state.withLock { state in
            state.count -= 1
            guard state.count == 0 else { return [EventLoopPromise<Void>]() }
            defer { state.waiting = [] }
            return state.waiting
        }
        for promise in ready { promise.succeed() }
    }

    func whenEmpty(_ eventLoop: any EventLoop) -> EventLoopFuture<Void> {
        let promise = eventLoop.makePromise(of: Void.self)
        let isEmpty = state.withLock { state in
            if state.count > 0 { state.waiting.append(promise) }
            return state.count == 0
        }
        if isEmpty { promise.succeed() }
        return promise.futureResult
    }
}
