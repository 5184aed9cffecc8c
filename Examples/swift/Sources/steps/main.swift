// The seven steps of the client's page, against the gateway at PROCGATE_ADDRESS.

import ProcgateClient

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

func setting(_ name: String) -> String? {
    getenv(name).map { String(cString: $0) }
}

let sandbox = try await Sandbox.connect(
    setting("PROCGATE_ADDRESS") ?? "http://127.0.0.1:7070", token: setting("PROCGATE_TOKEN"))

print("1 exec")
let result = try await sandbox.exec("echo out; echo err >&2; exit 3")
print("  exit code \(result.exitCode ?? -1), stdout \(result.stdout.debugDescription)")
precondition(result.exitCode == 3 && result.stdout == "out\n" && result.stderr == "err\n")

print("2 options")
let place = try await sandbox.exec(
    "pwd && echo $FOO", cwd: "/tmp", env: ["FOO": "bar"], timeout: .seconds(5))
precondition(place.stdout == "/tmp\nbar\n")
let late = try await sandbox.exec("sleep 60", timeout: .milliseconds(200))
print("  status \(late.status)")
precondition(late.status == .timedOut)

print("3 start and stdin")
let process = try await sandbox.processes.start(
    "read line; echo got:$line", labels: ["example": "swift"])
try await process.writeStdin("hello\n", eof: true)
let ended = try await process.wait()
print("  \(process.id) said \(ended.stdout.debugDescription)")
precondition(ended.stdout == "got:hello\n")

print("4 get, list, signal")
let sleeper = try await sandbox.processes.start("sleep 60", labels: ["example": "swift"])
let fetched = try await sandbox.getProcess(sleeper.id)
let listing = try await sandbox.processes.list(
    status: .running, limit: 20, labels: ["example": "swift"])
precondition(listing.data.contains { $0.id == sleeper.id })
try await fetched.signal(.term)
let signalled = try await fetched.wait()
print("  status \(signalled.status), signal \(signalled.signal?.name ?? "-")")
precondition(signalled.status == .killed && signalled.signal == "SIGTERM")

print("5 stream")
let follower = try await sandbox.processes.start("echo one; sleep 0.1; echo two >&2")
for try await event in follower.stream() {
    switch event {
    case .stdout(let chunk): print("  stdout", chunk.seq, chunk.text.debugDescription)
    case .stderr(let chunk): print("  stderr", chunk.seq, chunk.text.debugDescription)
    case .exit(let result): print("  exited with", result.exitCode ?? -1)
    case .gap: break
    }
}

print("6 attach")
let session = try await sandbox.attach(
    "cat", terminal: TerminalSize(columns: 80, rows: 24))
try await session.write("typed\n")
var screen = ""
for try await event in session {
    guard case .stdout(let chunk) = event else { continue }
    screen += chunk.text
    // Once as the terminal's echo, once from cat; then its end-of-file character.
    if screen == "typed\r\ntyped\r\n" { try await session.write("\u{4}") }
}
print("  the terminal showed \(screen.debugDescription)")
precondition(screen.hasPrefix("typed\r\ntyped\r\n"))

print("7 go on where one was")
let counter = try await sandbox.processes.start("for i in 1 2 3 4 5 6; do echo $i; sleep 0.1; done")
var last: UInt64 = 0
for try await event in counter.stream() {
    guard case .stdout(let chunk) = event else { break }
    last = chunk.seq
    if last == 3 { break }
}
// Within one client a lost connection or a restart of the gateway is not even seen; another
// client goes on from a number.
await sandbox.close()
let other = try await Sandbox.connect(
    setting("PROCGATE_ADDRESS") ?? "http://127.0.0.1:7070", token: setting("PROCGATE_TOKEN"))
var rest = ""
for try await event in try await other.getProcess(counter.id).stream(fromSeq: last + 1) {
    if case .stdout(let chunk) = event { rest += chunk.text }
}
print("  the rest was \(rest.debugDescription)")
precondition(rest == "4\n5\n6\n")
await other.close()
print("done")
