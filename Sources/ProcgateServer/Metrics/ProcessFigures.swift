// What the kernel says of this process, under the names that Prometheus' client libraries use.

import Glibc

/// Reads CPU time, memory and descriptors when they are asked for.
struct ProcessFigures: Sendable {
    /// Since the epoch. Computed once: the clock may be set later.
    private let startSeconds: Double?

    init() {
        startSeconds = Self.readStart()
    }

    /// Those that the kernel gives.
    func samples() -> [MetricSample] {
        let values: [(String, Double?)] = [
            ("process_cpu_seconds_total", Self.seconds(CLOCK_PROCESS_CPUTIME_ID)),
            ("process_resident_memory_bytes", Self.residentBytes()),
            ("process_open_fds", Self.openDescriptors()),
            ("process_max_fds", Self.mostDescriptors()),
            ("process_start_time_seconds", startSeconds),
        ]
        return values.compactMap { name, value in value.map { MetricSample(name, $0) } }
    }

    private static func readStart() -> Double? {
        // The fields behind the program's name, which ends with the last bracket.
        guard let text = read("/proc/self/stat"), let end = text.lastIndex(of: ")") else {
            return nil
        }
        let fields = text[end...].split(separator: " ")
        let ticksPerSecond = Double(sysconf(Int32(_SC_CLK_TCK)))
        guard fields.count > startField, let ticks = Double(fields[startField]),
            ticksPerSecond > 0
        else { return nil }
        let age = seconds(CLOCK_BOOTTIME) - ticks / ticksPerSecond
        return seconds(CLOCK_REALTIME) - age
    }

    /// Field 22 of proc(5), counted from the bracket behind the name, which is in field 2.
    private static let startField = 20

    private static func seconds(_ clock: clockid_t) -> Double {
        var time = timespec()
        clock_gettime(clock, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    private static func residentBytes() -> Double? {
        guard let fields = read("/proc/self/statm")?.split(separator: " "), fields.count > 1 else {
            return nil
        }
        return Double(fields[1]).map { $0 * Double(sysconf(Int32(_SC_PAGESIZE))) }
    }

    private static func openDescriptors() -> Double? {
        let path = "/proc/self/fd"
        var facts = stat()
        // Linux 6.2 and later say the number as the directory's size.
        if stat(path, &facts) == 0, facts.st_size > 0 { return Double(facts.st_size) }
        guard let directory = opendir(path) else { return nil }
        defer { closedir(directory) }
        var count = 0
        while readdir(directory) != nil { count += 1 }
        // Without `.`, `..`, and the descriptor that the directory is read by.
        return Double(count - 3)
    }

    private static func mostDescriptors() -> Double? {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else {
            return nil
        }
        return Double(limit.rlim_cur)
    }

    private static func read(_ path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 4_096)
        let count = Glibc.read(descriptor, &bytes, bytes.count)
        return count > 0 ? String(decoding: bytes[..<count], as: UTF8.self) : nil
    }
}
