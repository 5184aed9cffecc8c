// ProcgateClient as the `client` figures measure it: what calls cost their caller.
//
//     client-benchmark exec http://HOST:PORT CALLS AT_ONCE
//     client-benchmark stream http://HOST:PORT BYTES
//
// Prints one line of JSON: what was done, and the seconds, the CPU time and the peak of the memory
// of this program; the first two without its start and a first call. Exit status 1 where an answer
// is wrong. The token, where one is needed, is in PROCGATE_TOKEN.

import ProcgateClient

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif

@main
enum ClientBenchmark {
    private enum Work {
        case exec(calls: Int, atOnce: Int)
        case stream(bytes: Int)
    }

    private struct WrongAnswer: Error, CustomStringConvertible {
        let description: String
    }

    static func main() async {
        let words = Array(CommandLine.arguments.dropFirst())
        guard words.count >= 2, let work = read(words) else {
            complain("give exec http://HOST:PORT CALLS AT_ONCE, or stream http://HOST:PORT BYTES")
            exit(64)
        }
        do {
            print(try await measure(work, at: words[1]))
        } catch {
            complain("\(error)")
            exit(1)
        }
    }

    private static func read(_ words: [String]) -> Work? {
        let numbers = words.dropFirst(2).compactMap { Int($0) }.filter { $0 > 0 }
        switch (words[0], numbers.count, words.count) {
        case ("exec", 2, 4): return .exec(calls: numbers[0], atOnce: numbers[1])
        case ("stream", 1, 3): return .stream(bytes: numbers[0])
        default: return nil
        }
    }

    private static func measure(_ work: Work, at address: String) async throws -> String {
        let token = getenv("PROCGATE_TOKEN").map { String(cString: $0) }
        let sandbox = try await Sandbox.connect(address, token: token)
        try await runTrue(in: sandbox)
        let (begin, cpuBegin) = (ContinuousClock.now, cpuSeconds())
        let done: String
        switch work {
        case .exec(let calls, let atOnce):
            try await runMany(calls, atOnce, in: sandbox)
            done = "\"calls\": \(calls)"
        case .stream(let bytes):
            try await readStream(bytes, in: sandbox)
            done = "\"bytes\": \(bytes)"
        }
        let cpu = cpuSeconds() - cpuBegin
        let seconds = (ContinuousClock.now - begin) / .seconds(1)
        await sandbox.close()
        return "{\(done), \"seconds\": \(seconds), \"cpu_s\": \(cpu), \"peak_kib\": \(peakKiB())}"
    }

    // MARK: Work

    private static func runTrue(in sandbox: Sandbox) async throws {
        let result = try await sandbox.exec("true")
        guard result.succeeded, result.stdoutBytes.isEmpty, result.stderrBytes.isEmpty else {
            throw WrongAnswer(description: "true ended as \(result.process)")
        }
    }

    private static func runMany(_ calls: Int, _ atOnce: Int, in sandbox: Sandbox) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for worker in 0..<atOnce {
                let share = calls / atOnce + (worker < calls % atOnce ? 1 : 0)
                group.addTask {
                    for _ in 0..<share { try await runTrue(in: sandbox) }
                }
            }
            try await group.waitForAll()
        }
    }

    private static func readStream(_ bytes: Int, in sandbox: Sandbox) async throws {
        var received = 0
        var hasSucceeded = false
        for try await event in try await sandbox.execStream("head -c \(bytes) /dev/zero") {
            switch event {
            case .stdout(let chunk): received += chunk.bytes.count
            case .exit(let result): hasSucceeded = result.succeeded
            case .stderr, .gap: break
            }
        }
        guard hasSucceeded, received == bytes else {
            throw WrongAnswer(description: "\(received) bytes instead of \(bytes)")
        }
    }

    // MARK: What it took

    private static func cpuSeconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    #if os(Linux)
        /// VmHWM of /proc/self/status.
        private static func peakKiB() -> Int {
            guard let file = fopen("/proc/self/status", "r") else { return 0 }
            defer { fclose(file) }
            var line = [CChar](repeating: 0, count: 256)
            while fgets(&line, Int32(line.count), file) != nil {
                let bytes = line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
                let words = String(decoding: bytes, as: UTF8.self).split { $0.isWhitespace }
                if words.count >= 2, words[0] == "VmHWM:" { return Int(words[1]) ?? 0 }
            }
            return 0
        }
    #else
        private static func peakKiB() -> Int {
            var usage = rusage()
            getrusage(RUSAGE_SELF, &usage)
            return usage.ru_maxrss / 1024
        }
    #endif

    private static func complain(_ message: String) {
        let bytes = Array("client-benchmark: \(message)\n".utf8)
        _ = write(2, bytes, bytes.count)
    }
}
