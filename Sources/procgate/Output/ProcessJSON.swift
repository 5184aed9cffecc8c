// Processes and what they do, as JSON: the contract's field names in lowerCamelCase, numbers as
// numbers, times in milliseconds since the Unix epoch, enum values in lower case, bytes in
// base64, and null for what is not known or has not happened.

import ProcgateClient

extension JSON {
    init(_ process: ProcessSummary) {
        self = .object([
            ("id", .string(process.id)),
            ("status", .string(process.status.rawValue)),
            ("command", .string(process.command)),
            ("args", .array(process.arguments.map(JSON.string))),
            ("cwd", .string(process.cwd)),
            ("runAs", .string(process.runAs)),
            ("labels", JSON(process.labels)),
            ("pid", JSON(process.pid)),
            ("exitCode", JSON(process.exitCode)),
            ("signal", JSON(process.signalNumber)),
            ("signalName", JSON(process.signal?.name)),
            ("error", JSON(process.error)),
            ("createdAt", .number(process.createdAt)),
            ("startedAt", process.startedAt.map(JSON.number) ?? .null),
            ("endedAt", process.endedAt.map(JSON.number) ?? .null),
            ("terminationReason", JSON(process.terminationReason?.rawValue)),
            ("usage", process.usage.map(JSON.init) ?? .null),
            ("limitsEnforced", JSON(process.limitsEnforced?.rawValue)),
            ("firstRetainedSeq", .number(Int64(clamping: process.firstRetainedSeq))),
            ("lastSeq", .number(Int64(clamping: process.lastSeq))),
            ("stdoutBytes", JSON(process.stdoutByteCount)),
            ("stderrBytes", JSON(process.stderrByteCount)),
            ("stdinBytes", JSON(process.stdinByteCount)),
            ("stdinClosed", .bool(process.stdinClosed)),
            ("descendantsAlive", .bool(process.descendantsAlive)),
            ("expiresAt", process.expiresAt.map(JSON.number) ?? .null),
            ("owner", .string(process.owner)),
        ])
    }

    init(_ usage: ResourceUsage) {
        self = .object([
            ("cpuTimeMs", .number(usage.cpuTime.milliseconds)),
            ("peakMemoryBytes", JSON(usage.peakMemoryBytes)),
        ])
    }

    init(_ result: ProcessResult) {
        self = .object([
            ("process", JSON(result.process)),
            ("stdoutData", .string(base64(result.stdoutBytes))),
            ("stderrData", .string(base64(result.stderrBytes))),
            ("outputTruncated", .bool(result.outputTruncated)),
            ("lastSeq", .number(Int64(clamping: result.lastSeq))),
        ])
    }

    /// One member, named after what happened.
    init(_ event: OutputEvent) {
        switch event {
        case .stdout(let chunk): self = .object([("output", JSON(chunk, stream: "stdout"))])
        case .stderr(let chunk): self = .object([("output", JSON(chunk, stream: "stderr"))])
        case .exit(let result): self = .object([("exited", JSON(result))])
        case .gap(let gap):
            self = .object([
                (
                    "gap",
                    .object([
                        ("fromSeq", .number(Int64(clamping: gap.fromSeq))),
                        ("toSeq", .number(Int64(clamping: gap.toSeq))),
                    ])
                )
            ])
        }
    }

    /// `text` beside the contract's `data`: what is not UTF-8 in it is U+FFFD.
    private init(_ chunk: OutputChunk, stream: String) {
        self = .object([
            ("seq", .number(Int64(clamping: chunk.seq))),
            ("stream", .string(stream)),
            ("timestamp", .number(chunk.timestamp)),
            ("data", .string(base64(chunk.bytes))),
            ("text", .string(chunk.text)),
        ])
    }

    init(_ change: ProcessChange) {
        switch change {
        case .process(let process): self = .object([("process", JSON(process))])
        case .deleted(let id): self = .object([("deletedId", .string(id))])
        }
    }

    init(_ info: GatewayInfo) {
        self = .object([
            ("version", .string(info.version)),
            ("node", .string(info.node)),
            ("cordoned", .bool(info.isCordoned)),
            ("instanceId", .string(info.instanceID)),
            ("limitsEnforced", JSON(info.limitsEnforced?.rawValue)),
            ("maxRunning", JSON(info.maxRunning)),
            ("maxQueued", JSON(info.maxQueued)),
            ("maxMessageBytes", JSON(info.maxMessageBytes)),
            ("retainBytes", JSON(info.retainBytes)),
            ("retainMs", .number(info.retainTime.milliseconds)),
            ("keepAliveMs", .number(info.keepAlive.milliseconds)),
        ])
    }

    init(_ members: [String: String]) {
        self = .object(members.sorted { $0.key < $1.key }.map { ($0.key, .string($0.value)) })
    }

    init(_ number: Int?) {
        self = number.map { .number(Int64($0)) } ?? .null
    }

    init(_ text: String?) {
        self = text.map(JSON.string) ?? .null
    }
}

extension Duration {
    var milliseconds: Int64 {
        components.seconds * 1000 + components.attoseconds / 1_000_000_000_000_000
    }
}
