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
            "HOST:PORT, [v6]:PORT or unix:PATH; may be repeated; port 0 takes a free one. On a "
                + "unix socket the gateway's user and root need no token, unless it is "
                + "unix:PATH,token. (default: 127.0.0.1:7070)", valueName: "address"))
    var listen: [ListenArgument] = []

    @Option(
        help: """
            Who may call: lines of TOKEN or NAME TOKEN; read again on SIGHUP. (default: made at \
            RUNTIME/token)
            """)
    var tokenFile: String?

    @Flag(help: "Anybody who can reach the address may run anything: loopback and unix only.")
    var noToken = false

    @Option(help: "PEM; TLS 1.2 or later, ALPN h2; read again on SIGHUP.")
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
        guard !noToken || !listen.contains(where: \.needsToken) else {
            throw ValidationError("--no-token and --listen unix:PATH,token contradict each other")
        }
        guard metricsListen?.needsToken != true else {
            throw ValidationError("--metrics-listen: metrics are served without a token")
        }
        if let problem = allowUser.compactMap({ userNameProblem($0, "--allow-user") }).first {
            throw ValidationError(problem)
        }
        guard Self.messageBytes.contains(maxMessageBytes.bytes) else {
            throw ValidationError("--max-message-bytes is between 64KiB and 1GiB")
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
        // A log file that has reached the limit of file sizes is an error of its writer.
        signal(SIGXFSZ, SIG_IGN)
        MemoryPolicy.apply()
        let log = LineLog.standardErrorWriter(logFormat)
        let output = LineWriter(descriptor: STDOUT_FILENO) { "\($0) lines were dropped" }
        defer {
            output.end(within: Self.lastLinesNanoseconds)
            log.end(within: Self.lastLinesNanoseconds)
        }
        try await serve(log, output)
        throw ExitCode.success
    }

    /// At the end, for lines that nobody has read yet.
    private static let lastLinesNanoseconds = 1_000_000_000

    private func serve(_ log: LineWriter, _ output: LineWriter) async throws {
        let terminal = ControllingTerminal()
        let signals = try SignalSource.take(
            [SIGTERM, SIGINT, SIGHUP], evenIgnored: true)
        let logger = LineLog.logger(
            "procgate", level: logLevel.level, format: logFormat, writer: log)
        var configuration = try gatewayConfiguration()
        configuration.droppedLogLines = { log.dropped }
        let gateway: Gateway
        do {
            gateway = try await Gateway.start(configuration, logger: logger)
        } catch {
            throw Failure(await StartFailure.explanation(of: error, configuration))
        }
        // The supervisor, started before, gives its processes the limit that was there.
        DescriptorLimit.raise()
        for address in gateway.addresses { output.add("listening on \(address)") }
        if let address = gateway.metricsAddress { output.add("metrics on \(address)") }
        if printExamples, let address = gateway.addresses.first {
            for line in CallExamples.lines(address: "\(address)", tokenFile: tokenPath) {
                output.add(line)
            }
        }
        output.end()
        MemoryPolicy.letGoOfStartUp(isAlone: false)
        let lifetime = GatewayLifetime(
            gateway: gateway, logger: logger, terminal: terminal, certificates: certificates)
        await lifetime.run(signals)
    }

    private var certificates: CertificateOptions {
        CertificateOptions(
            certificate: tlsCertificate, key: tlsKey, clientAuthority: tlsClientCa)
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
        try certificates.check()
        try checkMetricsListen()
        try RuntimeDirectory.make(state)
        var policy = GatewayPolicy(
            version: procgateVersion, defaultUser: processes.defaultUser ?? "",
            runAs: RunAsPolicy(
                allowing: allowUser, defaultUser: processes.defaultUser ?? ""),
            maxMessageBytes: Int(maxMessageBytes.bytes),
            keepAlive: .milliseconds(Int64(keepAlive.milliseconds)))
        policy.nodeName = processes.node ?? ""
        let launcher = SupervisorLauncher(
            stateDirectory: state, executable: ownExecutable(),
            arguments: processes.superviseArguments(stateDirectory: state),
            version: procgateVersion)
        var configuration = GatewayConfiguration(policy: policy, supervisor: launcher)
        if !listen.isEmpty { configuration.listen = listen.map(\.address) }
        configuration.tokens = try tokens()
        configuration.tokenSockets = Set(
            listen.compactMap { argument in
                guard argument.needsToken, case .unix(let path) = argument.address else {
                    return nil
                }
                return path
            })
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
        configuration.supervisorOptions = processes.supervisorOptions
        configuration.keepsProcesses = keepProcesses
        configuration.metricsListen = metricsListen?.address
        return configuration
    }

    /// Where a caller finds its token; `nil` where it needs none.
    private var tokenPath: String? {
        if noToken { return nil }
        if let tokenFile { return tokenFile }
        if tlsClientCa != nil, !listen.contains(where: \.needsToken) { return nil }
        return ((try? RuntimeDirectory.path()) ?? "RUNTIME") + "/token"
    }

    /// Of `--max-message-bytes`. Below, requests without a payload would be refused: reflection
    /// takes 64 KiB.
    private static let messageBytes: ClosedRange<UInt64> = 1 << 16...1 << 30

    private func tokens() throws(Failure) -> TokenFile? {
        guard !noToken else { return nil }
        do throws(TokenFileError) {
            if let tokenFile { return try TokenFile(reading: tokenFile) }
            // Callers are known by their certificates, unless a unix socket needs a token.
            if tlsClientCa != nil, !listen.contains(where: \.needsToken) { return nil }
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
