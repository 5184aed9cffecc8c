// Signals as input of the loop.

import CLinux

/// A signalfd.
public struct SignalSource: ~Copyable {
    private let source: FileDescriptor

    /// The calling thread blocks `signals` from now on.
    public init(_ signals: [Int32]) throws(SystemError) {
        let raw = clinux_signalfd(signals, signals.count)
        guard raw >= 0 else { throw SystemError("signalfd") }
        source = FileDescriptor(owning: raw)
    }

    public var raw: Int32 { source.raw }

    /// A signal that came, `nil` where there is none.
    public func next() -> Int32? {
        let signal = clinux_signalfd_next(source.raw)
        return signal > 0 ? signal : nil
    }
}
