// What a user of the library has: one import, and the lines of the client's page.

import ProcgateClient

/// The page's lines as they stand there. That they run is tested elsewhere: here they compile.
func page(_ token: String) async throws {
    let sandbox = try await Sandbox.connect("http://127.0.0.1:7070", token: token)

    let result = try await sandbox.exec("node -v")
    print("Exit code:", result.exitCode ?? -1)
    print("Stdout:", result.stdout, "Stderr:", result.stderr)

    _ = try await sandbox.exec(
        "pwd && echo $FOO && whoami", cwd: "/tmp", env: ["FOO": "bar"],
        timeout: .seconds(5), runAs: "root")

    let process = try await sandbox.processes.start(
        "read line; echo stdout:$line; echo stderr:$line 1>&2", runAs: "root")
    try await process.writeStdin("hello\n", eof: true)
    let ended = try await process.wait()
    print(ended.status)

    let fetched = try await sandbox.getProcess(process.id)
    let listing = try await sandbox.processes.list(status: .running, limit: 20)
    print(listing.data.map { $0.id })
    try await fetched.signal(.term)
    try await fetched.signal("TERM")
    let final = try await fetched.result()
    print(final.status)

    let follower = try await sandbox.processes.start("echo stream-out; echo stream-err 1>&2")
    for try await event in follower.stream() {
        switch event {
        case .exit(let result): print("Exited with:", result.exitCode ?? -1)
        case .stdout(let chunk), .stderr(let chunk): print(chunk.seq, chunk.text)
        case .gap: break
        }
    }
    await sandbox.close()
}

/// What it names besides.
func besides(_ sandbox: Sandbox, _ process: SandboxProcess) async throws {
    try await process.refresh()
    try await process.kill()
    try await process.stop(grace: .seconds(1))
    try await process.resize(columns: 80, rows: 24)
    try await process.delete()
    for try await _ in sandbox.processes.watch(labels: ["a": "b"]) { break }
    for try await _ in sandbox.processes.all(status: .running) { break }
    for try await _ in process.stream(fromSeq: 7) { break }
    _ = try await sandbox.exec("cat", stdin: "text")
    _ = try await sandbox.exec("cat", stdin: AsyncStream<String> { $0.finish() })
    _ = try await sandbox.exec("ls", arguments: ["-l"], maxOutputBytes: 64 << 20)
    _ = try await sandbox.exec("ls") { _ in }
    _ = try await sandbox.exec("ls", onOutput: { _ in })
    _ = try await sandbox.exec("ls", options: CommandOptions())
    _ = try await sandbox.attach("sh", terminal: TerminalSize(columns: 80, rows: 24))
    _ = try await sandbox.exec("sudo -n true", allowNewPrivileges: true)
    _ = try await Sandbox.connect("unix:/path", tokenFile: "/path")
}

/// The ways in which people catch.
func catching(_ sandbox: Sandbox) async throws {
    do {
        _ = try await sandbox.exec("true")
    } catch let error as SandboxError where error.reason == .runAsDenied {
        print("\(error.reason): \(error.message)")
    } catch let error as SandboxError {
        guard error.mayRetry else { throw error }
        print(error.code, error.processID ?? "-")
    } catch is CancellationError {
        print("cancelled")
    }
    do {
        for try await _ in sandbox.processes.all() { break }
        for try await _ in try await sandbox.processes.get("x").stream() { break }
    } catch {
        if let error = error as? SandboxError, error.reason == .processNotFound { return }
        throw error
    }
    let codes: [SandboxError.Code] = [.unavailable, .notFound]
    print(codes)
    let result: Result<ProcessResult, any Error>
    do { result = .success(try await sandbox.exec("true")) } catch { result = .failure(error) }
    _ = try result.get()
}

guard CommandLine.arguments.count == 2 else { fatalError("give the gateway's address") }
let sandbox = try await Sandbox.connect(CommandLine.arguments[1])
do {
    let result = try await sandbox.exec("echo outside; exit 3")
    precondition(result.exitCode == 3 && result.stdout == "outside\n")
} catch let error as SandboxError {
    fatalError("\(error.reason): \(error.message)")
}
await sandbox.close()
print("done")
