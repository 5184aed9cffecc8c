// A running gateway and the signals that it gets, until it has ended. Knows no option.

import Glibc
import Logging
import ProcgateServer

/// What SIGTERM, SIGINT and SIGHUP do to a gateway.
struct GatewayLifetime: Sendable {
    let gateway: Gateway
    let logger: Logger
    let terminal: ControllingTerminal
    /// What the options say of the files, checked before a reload.
    let certificates: CertificateOptions

    private enum Event {
        case hangup
        case end
        case reloaded
        case drained
    }

    /// Signals and answers that wait; more signals than that are repeats.
    private static let mostEvents = 64

    /// Returns once the gateway has ended: by the first SIGTERM or SIGINT in order, by the second
    /// at once.
    func run(_ signals: AsyncStream<Int32>) async {
        let (events, feed) = AsyncStream.makeStream(
            of: Event.self, bufferingPolicy: .bufferingOldest(Self.mostEvents))
        let forwarding = Task {
            for await number in signals { feed.yield(number == SIGHUP ? .hangup : .end) }
        }
        defer { forwarding.cancel() }
        var isEnding = false
        var reloads = PendingReloads()
        for await event in events {
            switch event {
            case .hangup where terminal.isGone:
                // A shell and the kernel may both say so.
                guard !isEnding else { continue }
                isEnding = true
                logger.notice("draining: the terminal is gone")
                drain(feed)
            case .hangup:
                if reloads.request() { reload(feed) }
            case .reloaded:
                if reloads.finish() { reload(feed) }
            case .end where isEnding:
                logger.notice("ending now")
                return await gateway.stopNow()
            case .end:
                isEnding = true
                logger.notice("draining")
                drain(feed)
            case .drained:
                return
            }
        }
    }

    private func drain(_ feed: AsyncStream<Event>.Continuation) {
        Task {
            await gateway.drain()
            feed.yield(.drained)
        }
    }

    /// Files may take any time: a signal to end is acted on meanwhile.
    private func reload(_ feed: AsyncStream<Event>.Continuation) {
        Task {
            await Blocking.run { reloadFiles() }
            feed.yield(.reloaded)
        }
    }

    private func reloadFiles() {
        do {
            try certificates.check()
            let files = try gateway.reload()
            guard !files.isEmpty else {
                return logger.notice("nothing to reload: there is no token file and no certificate")
            }
            logger.notice("reloaded", metadata: ["files": "\(files.joined(separator: ", "))"])
        } catch {
            logger.error(
                "cannot reload; the tokens and certificates in use stay",
                metadata: ["error": "\(error)"])
        }
    }
}

/// Reloads run one after the other; requests that come during one are answered by one more.
struct PendingReloads {
    private var isRunning = false
    private var isRequested = false

    /// - Returns: Whether to begin now.
    mutating func request() -> Bool {
        guard isRunning else {
            isRunning = true
            return true
        }
        isRequested = true
        return false
    }

    /// - Returns: Whether to begin again.
    mutating func finish() -> Bool {
        isRunning = isRequested
        isRequested = false
        return isRunning
    }
}

/// The terminal that the program was started from.
struct ControllingTerminal: Sendable {
    private let mattered: Bool

    /// To be made before SIGHUP is caught: a program that was started to ignore it, as by `nohup`,
    /// outlives its terminal.
    init() {
        mattered = !SignalSource.isIgnored(SIGHUP) && Self.open() == 0
    }

    /// There was one, and it was closed.
    var isGone: Bool {
        guard mattered else { return false }
        let code = Self.open()
        return code == ENXIO || code == EIO
    }

    /// 0, or why there is none.
    private static func open() -> Int32 {
        let descriptor = Glibc.open("/dev/tty", O_RDONLY | O_NOCTTY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { return errno }
        close(descriptor)
        return 0
    }
}

/// The PEM files of the command line.
struct CertificateOptions: Sendable {
    let certificate: String?
    let key: String?
    let clientAuthority: String?

    /// - Throws: Where a file cannot be read or holds something else, with the option's name.
    func check() throws(Failure) {
        if let certificate {
            try PEMFile.check(certificate, holds: .certificate, for: "--tls-certificate")
        }
        if let key { try PEMFile.check(key, holds: .key, for: "--tls-key") }
        if let clientAuthority {
            try PEMFile.check(clientAuthority, holds: .certificate, for: "--tls-client-ca")
        }
    }
}
