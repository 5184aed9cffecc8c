// A field whose type contains the field again cannot lie inside it. Knows nothing else.

/// A value on the heap, with the semantics of the value itself.
package indirect enum Indirect<Value> {
    case value(Value)

    package init(_ value: Value) {
        self = .value(value)
    }

    package var value: Value {
        switch self {
        case .value(let value): value
        }
    }
}

extension Indirect: Equatable where Value: Equatable {}
extension Indirect: Sendable where Value: Sendable {}
