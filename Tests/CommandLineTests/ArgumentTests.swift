// Arguments: what is read from the words of a command line.

import ProcgateClient
import Testing

@testable import procgate

@Suite("Arguments")
struct ArgumentTests {
    @Test(
        "Durations are read, and written as they are read",
        arguments: [
            ("250ms", 250), ("5s", 5000), ("2m", 120_000), ("1h", 3_600_000), ("0s", 0),
            ("90s", 90_000), ("1500ms", 1500), ("2d", 172_800_000), ("1.5s", 1500),
            ("0.25m", 15_000), ("0.5d", 43_200_000), ("0.1ms", 1), ("1.000000001s", 1001),
            ("0.0s", 0),
        ] as [(String, UInt64)])
    func durations(text: String, milliseconds: UInt64) throws {
        let duration = try #require(DurationArgument(argument: text))
        #expect(duration.milliseconds == milliseconds)
        #expect(DurationArgument(argument: duration.description) == duration)
    }

    @Test(
        "What is no duration is refused",
        arguments: [
            "", "5", "s", "ms", "-5s", "1.5", " 5s", "5 s", "5S", "5w", "x", "٣s", ".5s", "5.s",
            "1.2.3s",
            "1.-5s", "1,5s", "99999999999999999999s", "9000000000000h", "0.1234567890s",
        ])
    func noDurations(text: String) {
        #expect(DurationArgument(argument: text) == nil)
    }

    @Test(
        "Sizes are read, and written as they are read",
        arguments: [
            ("64KiB", 65536), ("4MiB", 4 << 20), ("1GiB", 1 << 30), ("12B", 12), ("12", 12),
            ("0", 0), ("1025B", 1025), ("2TiB", 2 << 40),
        ] as [(String, UInt64)])
    func sizes(text: String, bytes: UInt64) throws {
        let size = try #require(SizeArgument(argument: text))
        #expect(size.bytes == bytes)
        #expect(SizeArgument(argument: size.description) == size)
    }

    @Test(
        "What is no size is refused",
        arguments: ["", "KiB", "4MB", "4kib", "-1B", "1.5GiB", "9999999999GiB", "4 MiB"])
    func noSizes(text: String) {
        #expect(SizeArgument(argument: text) == nil)
    }

    @Test("A pair is cut at the first equals sign")
    func pairs() {
        let pair = KeyValueArgument(argument: "A=b=c")
        #expect(pair?.key == "A")
        #expect(pair?.value == "b=c")
        #expect(KeyValueArgument(argument: "A=")?.value == "")
        #expect(KeyValueArgument(argument: "=b") == nil)
        #expect(KeyValueArgument(argument: "A") == nil)
    }

    @Test("The first line of a token file that has one gives the token")
    func tokens() {
        #expect(CallerToken.first(in: "# who\n\nalice  s3cret\nbob other\n") == "s3cret")
        #expect(CallerToken.first(in: "s3cret\n") == "s3cret")
        #expect(CallerToken.first(in: "# nobody\n \n") == nil)
        #expect(CallerToken.trimmed(" \ts3cret \r\n") == "s3cret")
        #expect(CallerToken.trimmed(" \n") == nil)
    }

    @Test("Words after -- are the command's, whatever they look like")
    func command() throws {
        let exec = try #require(
            try Procgate.parseAsRoot([
                "exec", "--cwd", "/tmp", "--env", "A=1", "--env", "A=2", "-i", "--timeout", "5s",
                "--", "ls", "-l", "--json", "--",
            ]) as? Exec)
        #expect(exec.command.program == "ls")
        #expect(exec.command.arguments == ["-l", "--json", "--"])
        #expect(exec.command.options.env == ["A": "2"])
        #expect(exec.command.options.timeout == .seconds(5))
        #expect(exec.interactive)
        #expect(!exec.gateway.json)
    }

    @Test("A timeout of nothing is no timeout")
    func noTimeout() throws {
        let words = ["exec", "--timeout", "0s", "--allow-new-privileges", "--keep", "ls"]
        let exec = try #require(try Procgate.parseAsRoot(words) as? Exec)
        #expect(exec.command.options.timeout == nil)
        #expect(exec.command.options.allowNewPrivileges)
        #expect(exec.keep)
    }

    @Test("start takes the options of exec, but no terminal")
    func startOptions() throws {
        let words = ["--keep", "--detach-keys", "ctrl-a", "-i", "--timeout", "1.5s", "ls"]
        let start = try #require(try Procgate.parseAsRoot(["start"] + words) as? Start)
        #expect(start.interactive)
        #expect(start.command.options.timeout == .milliseconds(1500))
        #expect(throws: (any Error).self) { try Procgate.parseAsRoot(["start", "-t", "ls"]) }
    }

    @Test("Options end with the command's first word, though no -- stands before it")
    func commandWithoutTerminator() throws {
        let exec = try #require(
            try Procgate.parseAsRoot([
                "exec", "--env", "A=1", "-it", "echo", "-n", "--json", "--", "-i", "--help",
            ]) as? Exec)
        #expect(exec.command.program == "echo")
        #expect(exec.command.arguments == ["-n", "--json", "--", "-i", "--help"])
        #expect(exec.command.env.dictionary == ["A": "1"])
        #expect(exec.interactive && exec.terminal)
        #expect(!exec.gateway.json)
    }

    @Test(
        "A command begins with no option, and is not missing",
        arguments: [["--nosuch", "ls"], ["-x", "ls"], ["-ix", "ls"], ["--"], [], ["--", ""]])
    func noCommand(words: [String]) {
        #expect(throws: (any Error).self) { try Procgate.parseAsRoot(["exec"] + words) }
        #expect(throws: (any Error).self) { try Procgate.parseAsRoot(["start"] + words) }
    }

    @Test("An address to listen on has a path, or a port of digits alone")
    func listening() {
        for text in ["127.0.0.1:80", "[::1]:0", "unix:/run/x"] {
            #expect(ListenArgument(argument: text) != nil, "\(text)")
        }
        for text in [
            "unix:", "127.0.0.1:+80", "127.0.0.1:", "127.0.0.1:65536", ":80", "[127.0.0.1]:80",
            "::1:80", "a b:80",
        ] {
            #expect(ListenArgument(argument: text) == nil, "\(text)")
        }
    }

    @Test("A unix socket may demand a token, and its path has no other comma")
    func tokenSocket() throws {
        let demanding = try #require(ListenArgument(argument: "unix:/run/x,token"))
        #expect(demanding.address == .unix(path: "/run/x"))
        #expect(demanding.needsToken && demanding.problem == nil)
        #expect(ListenArgument(argument: "unix:/run/x")?.needsToken == false)
        #expect(ListenArgument(argument: "unix:/run/x,tokens")?.problem != nil)
        #expect(ListenArgument(argument: "unix:,token") == nil)
    }

    @Test("The comma of a socket that demands a token parts no addresses in the environment")
    func tokenSocketOfEnvironment() throws {
        let variables = ["PROCGATE_LISTEN": "unix:/a,token, unix:/b , a:1,token"]
        let added = try EnvironmentOptions.added(to: ["serve"], from: { variables[$0] })
        let values = added.filter { $0 != "serve" && $0 != "--listen" }
        #expect(values == ["unix:/a,token", "unix:/b", "a:1", "token"])
    }

    @Test(
        "A gateway's address has a host, and a port of digits alone where it has one",
        arguments: [
            "127.0.0.1:80", "http://a.b:1", "https://a.b/", "[::1]:65535", "https://[::1]",
            "unix:/run/x", "unix:x", "unix:///run/x",
        ])
    func gateways(text: String) {
        #expect(isGatewayAddress(text))
    }

    @Test(
        "What is no gateway's address is refused",
        arguments: [
            "", "a:+80", "a:0x50", "a: 80", "a:", ":80", "a:0", "a:65536", "::1:80", "[a]:80",
            "[::1]80", "http://", "http://a/b", "ftp://a:80", "unix:", "unix://x", "a b:80",
            "unix:/" + String(repeating: "x", count: 107),
        ])
    func noGateways(text: String) {
        #expect(!isGatewayAddress(text))
    }

    @Test("Loopback is known by its address, not by how that is written")
    func loopback() {
        for host in ["127.0.0.1", "127.9.9.9", "localhost", "::1", "0:0::1"] {
            #expect(isLoopback(host), "\(host)")
        }
        for host in ["0.0.0.0", "128.0.0.1", "::", "fe80::1", "example.org"] {
            #expect(!isLoopback(host), "\(host)")
        }
    }

    @Test("Options come from the environment, lists without the spaces at their commas")
    func environmentOptions() throws {
        let variables = [
            "PROCGATE_LISTEN": " a:1 , b:2,", "PROCGATE_NO_TOKEN": "on",
            "PROCGATE_KEEP_PROCESSES": "off",
        ]
        let added = try EnvironmentOptions.added(to: ["serve"], from: { variables[$0] })
        #expect(added == ["serve", "--listen", "a:1", "--listen", "b:2", "--no-token"])
    }

    @Test("A flag that the environment sets to neither is wrong usage, but not for help")
    func environmentFlags() throws {
        let neither: (String) -> String? = { $0 == "PROCGATE_NO_TOKEN" ? "maybe" : nil }
        do {
            _ = try EnvironmentOptions.added(to: ["serve"], from: neither)
            Issue.record("it was taken")
        } catch {
            #expect(error.status == .usage)
        }
        let help = try EnvironmentOptions.added(to: ["serve", "--help"], from: neither)
        #expect(help == ["serve", "--help"])
    }
}
