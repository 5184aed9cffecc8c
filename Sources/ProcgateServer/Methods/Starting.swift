// What Exec, StartProcess and Attach share: a spec that was checked against the policy
// becomes a command to the supervisor.

import GRPCWire
import ProcgateInternal
import ProcgateV1
import Protobuf
import SupervisorLink

extension Worker {
    /// A request key comes back with nothing; it is kept as long as its process.
    private static let mostKeyBytes = 256
    /// No user has a longer name: nobody is asked for it.
    private static let mostNameBytes = 256
    /// More than this no kernel takes (`execve(2)`: three quarters of 8 MiB): it is refused before
    /// its many strings are made, which would hold up the loop's other calls.
    private static let mostArgumentBytes = 6 << 20
    /// Of ProcessSpec: `args` and `env`.
    private static let argumentFields: [UInt32] = [2, 4]
    /// Of each the kernel counts at least so much more than its text.
    private static let leastArgumentBytes = 4

    /// Throws ARGUMENTS_TOO_LONG for a message whose spec, at that path, is too large to start.
    static func checkArguments(
        of message: UnsafeRawBufferPointer, at path: [UInt32]
    ) throws(GRPCStatus) {
        // A small message is what it is.
        guard message.count > mostArgumentBytes / (leastArgumentBytes + 1) else { return }
        let bytes = FieldSum.bytes(
            of: argumentFields, each: leastArgumentBytes, at: path, in: message)
        guard bytes > mostArgumentBytes else { return }
        throw .refusal(
            .argumentsTooLong,
            "arguments and environment of \(bytes) bytes are more than the \(mostArgumentBytes) "
                + "that a host can take")
    }

    /// The command that starts `spec` for `caller`; its other fields are the method's.
    /// Throws COMMAND_REQUIRED or RUN_AS_DENIED.
    func start(
        _ spec: ProcessSpec?, key: String, for caller: Caller
    ) throws(GRPCStatus) -> Start {
        guard var spec, !spec.command.isEmpty else {
            throw .refusal(.commandRequired, "the process has no command")
        }
        guard key.utf8.count <= Self.mostKeyBytes else {
            throw .refusal(
                .requestKeyInvalid,
                "a request key has at most \(Self.mostKeyBytes) bytes, not \(key.utf8.count)")
        }
        guard spec.runAs.utf8.count <= Self.mostNameBytes else {
            throw .refusal(
                .userUnknown, "there is no user '\(spec.runAs.cut(toBytes: 64))…'")
        }
        if spec.runAs.isEmpty {
            spec.runAs = policy.defaultUser
        } else if !policy.runAs.allows(spec.runAs) {
            throw .refusal(
                .runAsDenied, "this gateway does not run processes as \(spec.runAs)")
        }
        var start = Start()
        start.spec = spec
        start.requestKey = key
        start.owner = caller.name
        return start
    }

    /// Sends a start that the call will own, and reads the log from the record `seq`. The
    /// process's end may depend on the call: the result is to be ended, whatever happens.
    func startOwned(
        _ start: Start, from seq: UInt64, by call: ServerCall
    ) async throws(GRPCStatus) -> OwnedProcess {
        let link = try liveLink()
        let owned = OwnedProcess(link: link)
        var start = start
        if let deadline = call.deadline { start.expiresAtNs = deadline.uptimeNanoseconds }
        // The request counts until the supervisor has it and has answered.
        let charge = call.messageCharge
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                owned.call = link.follow(.start(start), keeping: charge) {
                    continuation.resume(returning: $0)
                }
            }
        } onCancel: {
            eventLoop.execute { owned.end(of: call) }
        }
        do throws(SupervisorError) {
            let following = try result.get()
            call.releaseMessage()
            call.hold(following)
            // What has only now been started has nothing that its caller could have seen.
            let first = following.started.joined ? seq : 1
            owned.reader = LogReader(following.log, from: first, owner: owned.call)
            if let process = following.started.process, process.status == .queued {
                owned.queued = process
            }
            return owned
        } catch {
            owned.end(of: call)
            throw .supervisor(error)
        }
    }
}

extension ServerCall {
    /// Counts what a followed process makes its reader keep: the process as it started and as it
    /// stands, and once more to be sent.
    func hold(_ following: Following) {
        hold(2 * following.log.process.approximateBytes)
    }
}

extension Process {
    /// Of its texts.
    var approximateBytes: Int {
        let texts = command.utf8.count + cwd.utf8.count
        let arguments = args.reduce(0) { $0 + $1.utf8.count + 16 }
        return labels.reduce(texts + arguments) {
            $0 + $1.key.utf8.count + $1.value.utf8.count + 32
        }
    }
}

/// A process that depends on the call that started it, or joined it by its key.
///
/// `@unchecked Sendable`, because it is confined to the call's event loop.
final class OwnedProcess: @unchecked Sendable {
    let link: SupervisorLink
    var call: UInt64 = 0
    var reader: LogReader?
    /// As it stood when it was accepted, where it had to wait.
    var queued: Process?
    private var hasEnded = false

    init(link: SupervisorLink) {
        self.link = link
    }

    /// The caller has seen everything: nothing depends on it any more.
    func complete() { end(.completed) }

    /// The call is over before its time.
    func end(of call: ServerCall) {
        switch call.cancellation {
        case .reset, .deadline: end(.cancelled)
        case .connectionLost, .shutdown, nil: end(.lost)
        }
    }

    private func end(_ reason: AbandonReason) {
        guard !hasEnded else { return }
        hasEnded = true
        reader?.close()
        link.abandon(call, reason)
    }
}
