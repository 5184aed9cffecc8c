// Fields to be sent, laid out once as the codec wants them. Knows no meaning of any field.

internal import CNGHTTP2

/// Fields to be sent. Made once, it can be sent any number of times from any connection.
///
/// `@unchecked Sendable`: its memory is written in `init` and only read afterwards.
public final class HeaderList: @unchecked Sendable {
    let fields: UnsafeMutableBufferPointer<nghttp2_nv>
    private let bytes: UnsafeMutableRawBufferPointer

    /// - Parameter immortal: the list is never freed, so that the codec need not copy its
    ///   bytes. For lists in static storage only.
    public init(_ builder: HeaderListBuilder, immortal: Bool = false) {
        let copy = UnsafeMutableRawBufferPointer.allocate(
            byteCount: max(builder.bytes.count, 1), alignment: 1)
        builder.bytes.withUnsafeBytes { copy.copyMemory(from: $0) }
        bytes = copy
        fields = .allocate(capacity: builder.lengths.count)
        let base = bytes.baseAddress!.assumingMemoryBound(to: UInt8.self)
        var position = 0
        let noCopy =
            immortal
            ? UInt8(NGHTTP2_NV_FLAG_NO_COPY_NAME.rawValue | NGHTTP2_NV_FLAG_NO_COPY_VALUE.rawValue)
            : 0
        for (index, length) in builder.lengths.enumerated() {
            let name = base + position
            let value = name + length.name
            position += length.name + length.value
            let noIndex = length.isVolatile ? UInt8(NGHTTP2_NV_FLAG_NO_INDEX.rawValue) : 0
            fields.initializeElement(
                at: index,
                to: nghttp2_nv(
                    name: name, value: value, namelen: length.name, valuelen: length.value,
                    flags: noCopy | noIndex))
        }
        if immortal { _ = Unmanaged.passRetained(self) }
    }

    public convenience init(immortal fields: KeyValuePairs<StaticString, StaticString>) {
        var builder = HeaderListBuilder()
        for (name, value) in fields {
            value.withUTF8Buffer { builder.append(name, bytes: UnsafeRawBufferPointer($0)) }
        }
        self.init(builder, immortal: true)
    }

    deinit {
        fields.deallocate()
        bytes.deallocate()
    }
}

/// Collects fields for a ``HeaderList``. Names must be lower case, pseudo fields come first.
public struct HeaderListBuilder {
    var bytes: [UInt8] = []
    var lengths: [(name: Int, value: Int, isVolatile: Bool)] = []

    public init() {}

    /// - Parameter isVolatile: the value changes with each call and is kept out of HPACK's table.
    public mutating func append(
        _ name: StaticString, _ value: String, isVolatile: Bool = false
    ) {
        name.withUTF8Buffer { bytes.append(contentsOf: $0) }
        bytes.append(contentsOf: value.utf8)
        lengths.append((name.utf8CodeUnitCount, value.utf8.count, isVolatile))
    }

    public mutating func append(_ name: StaticString, bytes value: UnsafeRawBufferPointer) {
        name.withUTF8Buffer { bytes.append(contentsOf: $0) }
        bytes.append(contentsOf: value)
        lengths.append((name.utf8CodeUnitCount, value.count, false))
    }

    public mutating func append(name: String, value: String) {
        bytes.append(contentsOf: name.utf8)
        bytes.append(contentsOf: value.utf8)
        lengths.append((name.utf8.count, value.utf8.count, false))
    }
}
