// A backend of swift-metrics that prints what it counts as Prometheus text. Knows no
// particular metric.

import CoreMetrics
import Synchronization

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
        var summaries: [Key: Summary] = [:]
    }

    private struct Summary {
        var count: Double
        var sum: Double
    }

    private let state = Mutex(State())
    /// What each family is, by its name.
    private let help: [String: String]

    init(help: [String: String]) {
        self.help = help
    }

    /// Sets a summary without quantiles: of what somebody else has counted.
    func recordSummary(_ name: String, count: Double, sum: Double) {
        let key = Key(name: name, labels: "")
        state.withLock { $0.summaries[key] = Summary(count: count, sum: sum) }
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

    /// The exposition format, version 0.0.4.
    func text() -> String {
        let (counters, gauges, histograms, summaries) = state.withLock {
            ($0.counters, $0.gauges, $0.histograms, $0.summaries)
        }
        var text = ""
        Self.forEachFamily(counters) { name, members in
            text += heading(name, "counter")
            for (labels, counter) in members { text += "\(name)\(labels) \(counter.value)\n" }
        }
        Self.forEachFamily(gauges) { name, members in
            text += heading(name, "gauge")
            for (labels, gauge) in members { text += "\(name)\(labels) \(gauge.text)\n" }
        }
        Self.forEachFamily(histograms) { name, members in
            text += heading(name, "histogram")
            for (labels, histogram) in members { text += histogram.text(name, labels) }
        }
        Self.forEachFamily(summaries) { name, members in
            text += heading(name, "summary")
            for (labels, summary) in members {
                text += "\(name)_sum\(labels) \(summary.sum)\n"
                text += "\(name)_count\(labels) \(summary.count)\n"
            }
        }
        return text
    }

    private func heading(_ name: String, _ type: String) -> String {
        let told = help[name].map { "# HELP \(name) \($0)\n" } ?? ""
        return "\(told)# TYPE \(name) \(type)\n"
    }

    private static func forEachFamily<Metric>(
        _ metrics: [Key: Metric], _ body: (String, [(labels: String, metric: Metric)]) -> Void
    ) {
        for (name, members) in Dictionary(grouping: metrics, by: \.key.name).sorted(by: {
            $0.key < $1.key
        }) {
            body(
                name,
                members.map { (labels: $0.key.labels, metric: $0.value) }
                    .sorted { $0.labels < $1.labels })
        }
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
        let value = Double(bitPattern: bits.load(ordering: .relaxed))
        return Int64(exactly: value).map(String.init) ?? String(value)
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
