// A backend of swift-metrics that prints what it counts as Prometheus text. Knows no
// particular metric.

import CoreMetrics
import Synchronization

/// Metrics of one name.
struct MetricFamily: Sendable {
    enum Kind: String {
        case counter
        case gauge
        case histogram
        case summary
    }

    let name: String
    let kind: Kind
    let help: String

    init(_ name: String, _ kind: Kind, _ help: String) {
        self.name = name
        self.kind = kind
        self.help = help
    }
}

/// A value that is read when the metrics are asked for.
struct MetricSample: Sendable {
    let family: String
    /// Of a summary: `_sum` or `_count`.
    let suffix: String
    let labels: [(String, String)]
    let value: Double

    init(
        _ family: String, _ value: Double, labels: [(String, String)] = [], suffix: String = ""
    ) {
        self.family = family
        self.suffix = suffix
        self.labels = labels
        self.value = value
    }
}

/// Counters, gauges and histograms by name and labels.
///
/// A handler is looked up once and then kept by who counts: what is counted on the hot
/// path is an atomic addition.
final class PrometheusRegistry: MetricsFactory {
    private struct Key: Hashable {
        let name: String
        let labels: String
    }

    private struct State {
        var counters: [Key: PrometheusCounter] = [:]
        var gauges: [Key: PrometheusGauge] = [:]
        var histograms: [Key: PrometheusHistogram] = [:]
    }

    private let state = Mutex(State())
    private let families: [MetricFamily]

    /// - Parameter families: what is printed; every metric and sample belongs to one of them.
    init(families: [MetricFamily]) {
        self.families = families.sorted { $0.name < $1.name }
    }

    func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        let key = Key(name: label, labels: Self.labels(dimensions))
        return state.withLock { $0.counters.value(for: key) { PrometheusCounter() } }
    }

    func makeRecorder(
        label: String, dimensions: [(String, String)], aggregate: Bool
    ) -> any RecorderHandler {
        let key = Key(name: label, labels: Self.labels(dimensions))
        return state.withLock { $0.gauges.value(for: key) { PrometheusGauge() } }
    }

    func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
        let key = Key(name: label, labels: Self.labels(dimensions))
        return state.withLock { $0.histograms.value(for: key) { PrometheusHistogram() } }
    }

    // Metrics live as long as the registry.
    func destroyCounter(_ handler: any CounterHandler) {}
    func destroyRecorder(_ handler: any RecorderHandler) {}
    func destroyTimer(_ handler: any TimerHandler) {}

    /// The exposition format, version 0.0.4. Each family is described, also before it has a value.
    func text(adding samples: [MetricSample]) -> String {
        var lines = state.withLock { state in
            Self.lines(of: state.counters) { name, labels, counter in
                "\(name)\(labels) \(counter.value)\n"
            }.merging(
                Self.lines(of: state.gauges) { name, labels, gauge in
                    "\(name)\(labels) \(gauge.text)\n"
                }, uniquingKeysWith: +
            ).merging(
                Self.lines(of: state.histograms) { name, labels, histogram in
                    histogram.text(name, labels)
                }, uniquingKeysWith: +)
        }
        for sample in samples {
            let labels = Self.labels(sample.labels)
            let value = Self.text(of: sample.value)
            lines[sample.family, default: ""] +=
                "\(sample.family)\(sample.suffix)\(labels) \(value)\n"
        }
        var text = ""
        for family in families {
            text += "# HELP \(family.name) \(family.help)\n"
            text += "# TYPE \(family.name) \(family.kind.rawValue)\n"
            text += lines[family.name] ?? ""
        }
        return text
    }

    /// The lines of each family, by its name, sorted by their labels.
    private static func lines<Metric>(
        of metrics: [Key: Metric], _ line: (String, String, Metric) -> String
    ) -> [String: String] {
        var lines: [String: String] = [:]
        for (key, metric) in metrics.sorted(by: { $0.key.labels < $1.key.labels }) {
            lines[key.name, default: ""] += line(key.name, key.labels, metric)
        }
        return lines
    }

    fileprivate static func text(of value: Double) -> String {
        Int64(exactly: value).map(String.init) ?? String(value)
    }

    private static func labels(_ dimensions: [(String, String)]) -> String {
        guard !dimensions.isEmpty else { return "" }
        let parts = dimensions.map { name, value in "\(name)=\"\(escaped(value))\"" }
        return "{\(parts.joined(separator: ","))}"
    }

    private static func escaped(_ value: String) -> String {
        var text = ""
        // By scalars: CR and LF together are one character.
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\\": text += "\\\\"
            case "\"": text += "\\\""
            case "\n": text += "\\n"
            default: text.unicodeScalars.append(scalar)
            }
        }
        return text
    }
}

extension Dictionary {
    /// The value for `key`, made by `make` the first time.
    fileprivate mutating func value(for key: Key, make: () -> Value) -> Value {
        if let value = self[key] { return value }
        let value = make()
        self[key] = value
        return value
    }
}

private final class PrometheusCounter: CounterHandler {
    private let count = Atomic<Int64>(0)

    var value: Int64 { count.load(ordering: .relaxed) }

    func increment(by amount: Int64) { count.wrappingAdd(amount, ordering: .relaxed) }
    func reset() { count.store(0, ordering: .relaxed) }
}

private final class PrometheusGauge: RecorderHandler {
    private let bits = Atomic<UInt64>(0)

    var text: String {
        PrometheusRegistry.text(of: Double(bitPattern: bits.load(ordering: .relaxed)))
    }

    func record(_ value: Int64) { record(Double(value)) }
    func record(_ value: Double) { bits.store(value.bitPattern, ordering: .relaxed) }
}

/// Buckets from 100 µs to 10 minutes: from a look-up to a long command.
private final class PrometheusHistogram: TimerHandler {
    private static let bounds: [(seconds: String, nanoseconds: Int64)] = [
        ("0.0001", 100_000), ("0.001", 1_000_000), ("0.005", 5_000_000), ("0.025", 25_000_000),
        ("0.1", 100_000_000), ("0.5", 500_000_000), ("2.5", 2_500_000_000),
        ("10", 10_000_000_000), ("60", 60_000_000_000), ("600", 600_000_000_000),
    ]

    private struct State {
        var buckets = [Int](repeating: 0, count: PrometheusHistogram.bounds.count)
        var count = 0
        var sumNanoseconds = 0.0
    }

    private let state = Mutex(State())

    func recordNanoseconds(_ duration: Int64) {
        let bucket = Self.bounds.firstIndex { duration <= $0.nanoseconds }
        state.withLock { state in
            if let bucket { state.buckets[bucket] += 1 }
            state.count += 1
            state.sumNanoseconds += Double(duration)
        }
    }

    func text(_ name: String, _ labels: String) -> String {
        let state = state.withLock { $0 }
        let inner = labels.isEmpty ? "" : String(labels.dropFirst().dropLast()) + ","
        var text = ""
        var total = 0
        for (bound, count) in zip(Self.bounds, state.buckets) {
            total += count
            text += "\(name)_bucket{\(inner)le=\"\(bound.seconds)\"} \(total)\n"
        }
        text += "\(name)_bucket{\(inner)le=\"+Inf\"} \(state.count)\n"
        text += "\(name)_sum\(labels) \(state.sumNanoseconds / 1e9)\n"
        text += "\(name)_count\(labels) \(state.count)\n"
        return text
    }
}
