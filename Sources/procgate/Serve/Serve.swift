// procgate serve: the gateway's command line. Turns options into a configuration, runs
// the gateway, and turns signals into its reloads and ends.

import ArgumentParser
import GRPCWire
import Glibc
import LinuxIO
import Logging
import NIOCore
import ProcgateServer
import SupervisorLink

struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run the gateway.",
        discussion: """
            Every option can be given as an environment variable too: PROCGATE_LISTEN for \
            --listen, PROCGATE_TOKEN_FILE for --token-file; several values are separated by \
            commas. RUNTIME is $XDG_RUNTIME_DIR/procgate, or /run/procgate for root.
            """)

    @Option(
        help: ArgumentHelp(
            "HOST:PORT, [v6]:PORT or unix:PATH; may be repeated; port 0 takes a free one. "
                + "(default: 127.0.0.1:7070)", valueName: "address"))
    var listen: [ListenArgument] = []

    @Option(help: "Who may call: lines of TOKEN or NAME TOKEN. (default: made at RUNTIME/token)")
    var tokenFile: String?

    @Flag(help: "Anybody who can reach the address may run anything: loopback and unix only.")
    var noToken = false

    @Option(help: "PEM; TLS 1.2 or later, ALPN h2; read anew on SIGHUP.")
    var tlsCertificate: String?

    @Option(help: "PEM; the certificate's key.")
    var tlsKey: String?

    @Option(help: "Demand client certificates from this CA; the subject names the caller.")
    var tlsClientCa: String?

    @Option(
        help: ArgumentHelp(
            "Others whom run_as may name; may be repeated; * is all. "
                + "(default: all where it runs as root, none else)", valueName: "user"))
    var allowUser: [String] = []

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Largest request message.", valueName: "size"))
    var maxMessageBytes = SizeArgument(bytes: 16 << 20)

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Requests and responses of all connections together.", valueName: "size"))
    var maxBufferMemory = SizeArgument(bytes: 256 << 20)

    @Option(help: "Connections at once.")
    var maxConnections: UInt32 = 1024

    @Option(help: "Calls at once on each connection.")
    var maxStreams: UInt32 = 1024

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("On idle streams and connections.", valueName: "duration"))
    var keepAlive = DurationArgument(milliseconds: 20_000)

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("How long calls may go on after SIGTERM.", valueName: "duration"))
    var drainTimeout = DurationArgument(milliseconds: 30_000)

    @Flag(help: "On SIGTERM leave the supervisor and its processes to the next gateway.")
    var keepProcesses = false

    @Option(help: ArgumentHelp("Prometheus text at /metrics.", valueName: "address"))
    var metricsListen: ListenArgument?

    @Option(help: "trace, debug, info, notice, warning, error or critical.")
    var logLevel = LogLevelArgument(level: .info)

    @Option(help: "text or json, to standard error.")
    var logFormat = LogFormat.text

    @Flag(help: .hidden)
    var printExamples = false

    @OptionGroup(title: "Processes")
    var processes: ProcessOptions

    func validate() throws {
        if let problem = (listen + [metricsListen].compactMap { $0 }).compactMap(\.problem).first {
            throw ValidationError(problem)
        }
        guard tokenFile != "" else { throw ValidationError("--token-file names no file") }
        guard (tlsCertificate == nil) == (tlsKey == nil) else {
            throw ValidationError("--tls-certificate and --tls-key go together")
        }
        guard tlsClientCa == nil || tlsCertificate != nil else {
            throw ValidationError("--tls-client-ca needs --tls-certificate and --tls-key")
        }
        guard !noToken || tokenFile == nil else {
            throw ValidationError("--no-token and --token-file contradict each other")
        }
        guard maxMessageBytes.bytes >= 1, maxMessageBytes.bytes <= 1 << 30 else {
            throw ValidationError("--max-message-bytes is between 1B and 1GiB")
        }
        guard maxBufferMemory.bytes >= 1 << 20, maxBufferMemory.bytes <= 1 << 40 else {
            throw ValidationError("--max-buffer-memory is between 1MiB and 1024GiB")
        }
        guard maxConnections > 0, maxStreams > 0 else {
            throw ValidationError("--max-connections and --max-streams are at least 1")
        }
    }

    func run() async throws {
        signal(SIGPIPE, SIG_IGN)
        MemoryPolicy.apply()
        let signals = try SignalSource.take(
            [SIGTERM, SIGINT, SIGHUP], evenIgnored: true)
        let logger = LineLog.logger("procgate", level: logLevel.level, format: logFormat)
        let configuration = try gatewayConfiguration()
        let gateway: Gateway
        do {
            gateway = try await Gateway.start(configuration, logger: logger)
        } catch {
            throw Failure(await StartFailure.explanation(of: error, configuration))
        }
        // The supervisor, started before, gives its processes the limit that was there.
        DescriptorLimit.raise()
        for address in gateway.addresses { standardOutput("listening on \(address)") }
        if let address = gateway.metricsAddress { standardOutput("metrics on \(address)") }
        if printExamples, let address = gateway.addresses.first {
            for line in CallExamples.lines(address: "\(address)", tokenFile: tokenPath) {
                standardOutput(line)
            }
        }
        MemoryPolicy.letGoOfStartUp(isAlone: false)
        await serve(gateway, signals, logger)
        throw ExitCode.success
    }

    private enum Event {
        case reload
        case end
        case drained
    }

    /// Until the gateway has ended: by the first SIGTERM or SIGINT in order, by the
    /// second at once.
    private func serve(
        _ gateway: Gateway, _ signals: AsyncStream<Int32>, _ logger: Logger
    ) async {
        // More than anybody means: a reload, an end, an end at once.
        let (events, feed) = AsyncStream.makeStream(
            of: Event.self, bufferingPolicy: .bufferingOldest(8))
        let forwarding = Task {
            for await number in signals { feed.yield(number == SIGHUP ? .reload : .end) }
        }
        defer { forwarding.cancel() }
        var isEnding = false
        for await event in events {
            switch event {
            case .reload: reload(gateway, logger)
            case .end where isEnding:
                logger.notice("ending now")
                return await gateway.stopNow()
            case .end:
                isEnding = true
                logger.notice("draining")
                Task {
                    await gateway.drain()
                    feed.yield(.drained)
                }
            case .drained:
                return
            }
        }
    }

    /// Reads the certificates anew; tokens are read when the gateway starts, and then never.
    private func reload(_ gateway: Gateway, _ logger: Logger) {
        guard tlsCertificate != nil else {
            return logger.notice("nothing to read anew: there are no certificates")
        }
        do {
            try checkCertificates()
            try gateway.reloadCertificates()
            logger.notice("certificates read anew")
        } catch {
            logger.error("the certificates stay as they were", metadata: ["error": "\(error)"])
        }
    }

    private func checkCertificates() throws(Failure) {
        if let tlsCertificate {
            try PEMFile.check(tlsCertificate, holds: .certificate, for: "--tls-certificate")
        }
        if let tlsKey { try PEMFile.check(tlsKey, holds: .key, for: "--tls-key") }
        if let tlsClientCa {
            try PEMFile.check(tlsClientCa, holds: .certificate, for: "--tls-client-ca")
        }
    }

    /// Metrics have neither TLS nor a token.
    private func checkMetricsListen() throws(Failure) {
        guard let metricsListen, !metricsListen.isOfThisHost else { return }
        throw Failure(
            "--metrics-listen \(metricsListen.address) is not a loopback address: metrics are "
                + "served without TLS and a token; listen on 127.0.0.1, [::1] or a unix socket")
    }

    private func gatewayConfiguration() throws(Failure) -> GatewayConfiguration {
        let state = try processes.resolvedStateDirectory()
        try processes.checkDefaultUser()
        try checkCertificates()
        try checkMetricsListen()
        try RuntimeDirectory.make(state)
        let policy = GatewayPolicy(
            version: procgateVersion, defaultUser: processes.defaultUser ?? "",
            runAs: RunAsPolicy(
                allowing: allowUser, defaultUser: processes.defaultUser ?? ""),
            maxMessageBytes: Int(maxMessageBytes.bytes),
            keepAlive: .milliseconds(Int64(keepAlive.milliseconds)))
        let launcher = SupervisorLauncher(
            stateDirectory: state, executable: ownExecutable(),
            arguments: processes.superviseArguments(stateDirectory: state),
            version: procgateVersion)
        var configuration = GatewayConfiguration(policy: policy, supervisor: launcher)
        if !listen.isEmpty { configuration.listen = listen.map(\.address) }
        configuration.tokens = try tokens()
        if let tlsCertificate, let tlsKey {
            configuration.certificates = CertificateFiles(
                certificate: tlsCertificate, key: tlsKey, clientAuthority: tlsClientCa)
        }
        configuration.eventLoopCount = ProcessorCount.usable
        configuration.maxConnections = Int(maxConnections)
        configuration.maxStreams = Int(maxStreams)
        configuration.maxBufferMemory = Int(maxBufferMemory.bytes)
        configuration.returnFreeMemory = { MemoryPolicy.returnFreeMemory() }
        configuration.drainTimeout = .milliseconds(Int64(drainTimeout.milliseconds))
        configuration.gracePeriod = .milliseconds(Int64(processes.gracePeriod.milliseconds))
        configuration.keepsProcesses = keepProcesses
        configuration.metricsListen = metricsListen?.address
        return configuration
    }

    /// Where a caller finds its token; `nil` where it needs none.
    private var tokenPath: String? {
        if noToken { return nil }
        if let tokenFile { return tokenFile }
        if tlsClientCa != nil { return nil }
        return ((try? RuntimeDirectory.path()) ?? "RUNTIME") + "/token"
    }

    private func tokens() throws(Failure) -> TokenFile? {
        guard !noToken else { return nil }
        do throws(TokenFileError) {
            if let tokenFile { return try TokenFile(reading: tokenFile) }
            // Callers are known by their certificates.
            if tlsClientCa != nil { return nil }
            return try defaultTokens()
        } catch {
            throw Failure(error.description)
        }
    }

    private func defaultTokens() throws(TokenFileError) -> TokenFile {
        let directory: String
        do throws(Failure) {
            directory = try RuntimeDirectory.path()
            try RuntimeDirectory.make(directory, option: "--token-file")
        } catch {
            throw TokenFileError(error.message)
        }
        try TokenFile.create(at: directory + "/token")
        return try TokenFile(reading: directory + "/token")
    }
}

/// This program's file; where that was replaced meanwhile, what runs here.
private func ownExecutable() -> String {
    let link = "/proc/self/exe"
    return withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(PATH_MAX)) { buffer in
        guard let base = buffer.baseAddress else { return link }
        let count = readlink(link, base, buffer.count)
        guard count > 0, count < buffer.count else { return link }
        buffer[count] = 0
        return access(base, X_OK) == 0 ? String(cString: base) : link
    }
}
