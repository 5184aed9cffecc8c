// The gateway: one worker for each event loop, and the gRPC server over them. Knows how
// it starts, reloads and ends; what a call does is in Methods.

public import GRPCWire
import HTTP2
public import Logging
public import NIOCore
import NIOPosix
import ProcgateInternal
import ProcgateV1
import Protobuf
public import SupervisorLink

/// Why a gateway could not start: one line for who starts it.
public struct GatewayError: Error, CustomStringConvertible {
    public let description: String

    public init(_ description: String) {
        self.description = description
    }
}

/// How a gateway is reached, and what it allows.
public struct GatewayConfiguration: Sendable {
    public var listen: [ListenAddress] = [.tcp(host: "127.0.0.1", port: 7070)]
    /// `nil`: anybody who can reach the address may call.
    public var tokens: TokenFile?
    /// Paths of unix sockets on which every call needs a token, whichever user it comes from.
    public var tokenSockets: Set<String> = []
    /// Of TCP listeners; `nil` is cleartext.
    public var certificates: CertificateFiles?
    public var policy: GatewayPolicy
    /// Each with a link to the supervisor of its own; more than there are processors only
    /// cost switches between them.
    public var eventLoopCount = System.coreCount
    public var maxConnections = 1_024
    public var maxStreams = 1_024
    /// Of requests and responses of all connections together.
    public var maxBufferMemory = 256 << 20
    /// Returns free memory to the system; called on a thread of its own.
    public var returnFreeMemory: (@Sendable () -> Void)?
    /// How long calls may go on after `drain`.
    public var drainTimeout = TimeAmount.seconds(30)
    /// The options that a supervisor is started with, to be compared with those of one that runs.
    public var supervisorOptions = SupervisorOptions()
    /// Leave the supervisor and its processes to the next gateway.
    public var keepsProcesses = false
    public var metricsListen: ListenAddress?
    /// For the metrics: how many lines the log has dropped so far.
    public var droppedLogLines: @Sendable () -> UInt64 = { 0 }
    public var supervisor: SupervisorLauncher

    public init(policy: GatewayPolicy, supervisor: SupervisorLauncher) {
        self.policy = policy
        self.supervisor = supervisor
    }

    /// Unix sockets on which users are trusted.
    fileprivate var trustingSockets: [ListenAddress] {
        listen.filter { address in
            guard case .unix(let path) = address else { return false }
            return !tokenSockets.contains(path)
        }
    }

    /// Refuses what would let strangers in.
    func check() throws(GatewayError) {
        for case .tcp(let host, _) in listen where !isLoopback(host) {
            let authenticates = tokens != nil || certificates?.clientAuthority != nil
            guard certificates != nil, authenticates else {
                throw GatewayError(
                    "\(host) is not a loopback address: give --tls-certificate and --tls-key, "
                        + "with a token file or --tls-client-ca")
            }
        }
        if let path = tokenSockets.min(), tokens == nil {
            throw GatewayError("unix:\(path),token needs a token file, and there is none")
        }
        // Metrics have neither TLS nor tokens.
        if case .tcp(let host, _)? = metricsListen, !isLoopback(host) {
            throw GatewayError(
                "\(host) is not a loopback address: metrics ask nobody for a token; give "
                    + "--metrics-listen 127.0.0.1:PORT or unix:PATH, and a proxy before it")
        }
    }

    private func isLoopback(_ host: String) -> Bool {
        if host == "localhost" { return true }
        guard let address = try? SocketAddress(ipAddress: host, port: 0) else { return false }
        switch address {
        case .v4(let v4):
            return UInt32(bigEndian: v4.address.sin_addr.s_addr) >> 24 == 127
        case .v6:
            return host == "::1" || address.ipAddress == "::1"
        case .unixDomainSocket:
            return true
        }
    }
}

/// A running gateway. Ended by `drain` or `stopNow`, which may overtake it.
public final class Gateway: Sendable {
    private let configuration: GatewayConfiguration
    private let group: MultiThreadedEventLoopGroup
    private let workers: [Worker]
    private let server: GRPCServer
    private let tls: ServerTLS?
    private let tokens: TokenStore?
    private let health: HealthService
    private let metrics: MetricsListener?
    private let logger: Logger

    /// Starts or finds the supervisor, then binds every address.
    public static func start(
        _ configuration: GatewayConfiguration, logger: Logger
    ) async throws -> Gateway {
        try configuration.check()
        let group = MultiThreadedEventLoopGroup(numberOfThreads: configuration.eventLoopCount)
        let health = HealthService()
        let workers = try await connectWorkers(configuration, group, health, logger)
        do {
            return try await Gateway(configuration, group, workers.all, health, logger)
        } catch {
            // A supervisor that was started for nothing goes, one that was there stays.
            if workers.launchedSupervisor {
                await stopProcesses(of: workers.all, graceful: false, logger)
            }
            for worker in workers.all { await worker.close() }
            throw error
        }
    }

    private init(
        _ configuration: GatewayConfiguration, _ group: MultiThreadedEventLoopGroup,
        _ workers: [Worker], _ health: HealthService, _ logger: Logger
    ) async throws {
        self.configuration = configuration
        self.group = group
        self.workers = workers
        self.logger = logger
        self.health = health
        let tls = try configuration.certificates?.load()
        self.tls = tls

        let tokens = configuration.tokens.map { TokenStore($0) }
        self.tokens = tokens
        let authentication = Authentication(
            tokens: tokens,
            trustsCertificates: configuration.certificates?.clientAuthority != nil,
            trustingSockets: configuration.trustingSockets)
        let byLoop = Dictionary(
            uniqueKeysWithValues: workers.map { (ObjectIdentifier($0.eventLoop), $0) })
        let metrics = configuration.metricsListen.map { _ in
            GatewayMetrics(
                version: configuration.policy.version,
                droppedLogLines: configuration.droppedLogLines)
        }
        server = try await GRPCServer.start(
            configuration.listen.map { address in
                if case .tcp = address { Listener(address, tls: tls) } else { Listener(address) }
            },
            configuration: Self.serverConfiguration(configuration, logger, metrics),
            group: group
        ) { loop in
            guard let worker = byLoop[ObjectIdentifier(loop)] else {
                preconditionFailure("an event loop without its worker")
            }
            return worker.router(authentication, health)
        }
        for case .unix(let path) in server.addresses { SocketMode.restrict(path) }
        if let address = configuration.metricsListen, let metrics {
            self.metrics = try await MetricsListener.start(
                address, group: group, metrics: metrics, worker: workers[0])
        } else {
            self.metrics = nil
        }
    }

    /// Where it listens, ports resolved, as `--listen` would have them.
    public var addresses: [ListenAddress] { server.addresses }

    /// Where metrics are served.
    public var metricsAddress: ListenAddress? { metrics?.address }

    /// Reads the token file and the certificates again: all of them are replaced, or none.
    /// Connections that are open keep their certificates, calls that run go on. Waits for the
    /// file system.
    ///
    /// - Throws: An error that names the file and the cause.
    /// - Returns: The files that were read; none where the gateway uses none.
    public func reload() throws(GatewayError) -> [String] {
        var files: [String] = []
        var read: TokenFile?
        if let path = tokens?.path {
            do {
                read = try TokenFile(reading: path)
            } catch {
                throw GatewayError(error.description)
            }
            files.append(path)
        }
        if let tls, let certificates = configuration.certificates {
            try certificates.reload(tls)
            files += certificates.paths
        }
        // Last, because it cannot fail.
        if let read { tokens?.replace(with: read) }
        return files
    }

    /// No new calls; those that run go on up to the drain timeout, then what is left of
    /// the processes is stopped.
    public func drain() async {
        health.drain()
        guard !configuration.keepsProcesses else {
            await server.drain(timeout: configuration.drainTimeout)
            return await end(graceful: true)
        }
        // The callers of what is stopped then are told of its end.
        let stopping = Task {
            try await Task.sleep(for: .nanoseconds(configuration.drainTimeout.nanoseconds))
            await Self.stopProcesses(of: workers, graceful: true, logger)
        }
        let grace = await workers.first?.supervisorGrace() ?? .zero
        let farewell = grace + Self.farewellTime
        await server.drain(timeout: configuration.drainTimeout + farewell)
        stopping.cancel()
        await end(graceful: true)
    }

    /// Ends everything at once, also while a drain is under way.
    public func stopNow() async {
        health.drain()
        await server.stopNow()
        await end(graceful: false)
    }

    /// Between the end of the processes' grace and that of the calls: time to tell.
    private static let farewellTime = TimeAmount.seconds(2)

    private func end(graceful: Bool) async {
        await metrics?.close()
        if !configuration.keepsProcesses {
            await Self.stopProcesses(of: workers, graceful: graceful, logger)
        }
        for worker in workers { await worker.close() }
    }

    /// Once is enough, and a worker may have no link: the supervisor may just have been replaced.
    /// One that is gone has nothing left to stop.
    private static func stopProcesses(
        of workers: [Worker], graceful: Bool, _ logger: Logger
    ) async {
        for worker in workers { await worker.expectEnd() }
        await workers.first?.keeper.close()  // everybody's
        let grace = await workers.first?.supervisorGrace() ?? .zero
        let limit = graceful ? grace + killTime : stopTime
        for worker in workers {
            guard let result = await worker.shutDownSupervisor(graceful: graceful, limit: limit)
            else { continue }
            return report(result, logger)
        }
        logger.error("the supervisor has not said that its processes have ended")
    }

    /// What a supervisor needs to kill every process, uninterruptible ones among them, which it
    /// waits for in vain.
    private static let killTime = TimeAmount.seconds(12)
    /// The same where nothing is waited for.
    private static let stopTime = TimeAmount.seconds(2)

    private static func report(
        _ result: Result<ShutdownReply, SupervisorError>, _ logger: Logger
    ) {
        guard case .success(let reply) = result else { return }
        if reply.isShared {
            logger.notice(
                "the supervisor and its processes go on: they are not this gateway's alone")
        }
        if !reply.uninterruptible.isEmpty {
            let pids = reply.uninterruptible.map { String($0) }.joined(separator: " ")
            logger.error("processes were killed and do not end", metadata: ["pids": "\(pids)"])
        }
    }

    private static func connectWorkers(
        _ configuration: GatewayConfiguration, _ group: MultiThreadedEventLoopGroup,
        _ health: HealthService, _ logger: Logger
    ) async throws -> (all: [Worker], launchedSupervisor: Bool) {
        let keeper = SupervisorKeeper(
            launcher: configuration.supervisor, health: health, logger: logger)
        let failures = FailureLimiter()
        let fence = SessionFence()
        var workers: [Worker] = []
        var launched = false
        for loop in group.makeIterator() {
            let worker = Worker(
                eventLoop: loop, lane: UInt32(workers.count), policy: configuration.policy,
                logger: logger, keeper: keeper,
                failures: failures, fence: fence)
            do throws(SupervisorError) {
                let socket = try configuration.supervisor.connect(lane: worker.lane)
                launched = launched || socket.isFirst
                if workers.isEmpty, !socket.isFirst {
                    logJoining(socket.welcome, configuration.supervisorOptions, logger)
                }
                try await connect(worker, socket)
            } catch {
                throw GatewayError("no supervisor: \(error)")
            }
            workers.append(worker)
        }
        return (workers, launched)
    }

    private static func logJoining(
        _ facts: SupervisorFacts, _ options: SupervisorOptions, _ logger: Logger
    ) {
        logger.notice("joined a running supervisor, \(facts.liveProcesses) processes")
        for difference in options.differences(from: facts) {
            logger.warning(
                "the running supervisor does not follow --\(difference.option)",
                metadata: [
                    "wanted": "\(difference.wanted)", "in_force": "\(difference.inForce)",
                ])
        }
    }

    private static func connect(
        _ worker: Worker, _ socket: consuming SupervisorSocket
    ) async throws(SupervisorError) {
        do {
            try await worker.connect(socket).get()
        } catch {
            throw .lost("\(error)")
        }
    }

    private static func serverConfiguration(
        _ configuration: GatewayConfiguration, _ logger: Logger, _ metrics: GatewayMetrics?
    ) -> ServerConfiguration {
        var server = ServerConfiguration()
        server.limits.messageBytes = configuration.policy.maxMessageBytes
        server.limits.connections = configuration.maxConnections
        server.limits.keepAliveInterval =
            configuration.policy.keepAlive > .zero ? configuration.policy.keepAlive : nil
        server.limits.memoryBytes = configuration.maxBufferMemory
        server.http2.maxConcurrentStreams = configuration.maxStreams
        server.decodingFailure = startFailure
        if let returnFreeMemory = configuration.returnFreeMemory {
            server.memoryObserver = {
                NIOThreadPool.singleton.submit { state in
                    if case .active = state { returnFreeMemory() }
                }
            }
        }
        let log = CallLog(logger: logger)
        if let metrics { server.beginObserver = { metrics.callBegan() } }
        server.observer = { call in
            log.record(call)
            metrics?.record(call)
        }
        server.connectionObserver = { event in
            log.record(event)
            metrics?.record(event)
        }
        return server
    }

    /// Of a request that takes more memory than any may: one that starts a process has more
    /// arguments than the kernel takes.
    private static func startFailure(_ message: String, _ error: ProtobufError) -> GRPCStatus? {
        let starts = [
            ExecRequest.fullName, StartProcessRequest.fullName, AttachRequest.fullName,
        ]
        guard error == .tooLarge, starts.contains(message) else { return nil }
        return .refusal(
            .argumentsTooLong,
            "arguments, environment and labels take more than "
                + "\(ProtobufLimits.memoryBytes >> 20) MiB of memory")
    }
}
