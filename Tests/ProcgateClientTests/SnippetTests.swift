// The lines that the client's page shows, as they stand there.

import ProcgateClient
import Testing

@Suite("The client's page", .serialized, .timeLimit(.minutes(2)))
struct SnippetTests {
    @Test("The page's lines run as they stand")
    func snippet() async throws {
        let gateway = try TestGateway()
        try gateway.start()
        defer { gateway.stop() }
        let token = gateway.token

        let sandbox = try await Sandbox.connect(gateway.address, token: token)

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

        let fetched = try await sandbox.getProcess(process.id)
        let listing = try await sandbox.processes.list(status: .running, limit: 20)
        print(listing.data.map { $0.id })
        try await fetched.signal(.term)
        let final = try await fetched.result()
        print(final.status)

        let follower = try await sandbox.processes.start("echo stream-out; echo stream-err 1>&2")
        var seen: [String] = []
        for try await event in follower.stream() {
            switch event {
            case .exit(let result): print("Exited with:", result.exitCode ?? -1)
            case .stdout(let chunk), .stderr(let chunk):
                print(chunk.seq, chunk.text)
                seen.append(chunk.text)
            case .gap: break
            }
        }
        await sandbox.close()

        #expect(ended.stdout == "stdout:hello\n")
        #expect(ended.stderr == "stderr:hello\n")
        #expect(final.status == .exited)
        #expect(Set(seen) == ["stream-out\n", "stream-err\n"])
    }
}
