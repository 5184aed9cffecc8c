// The subject of an X.509 certificate, read from its DER. Verifies nothing: that has been done.

/// Whom a certificate names.
public struct CertificateSubject: Sendable, Equatable {
    /// The subject's common name.
    public let commonName: String?
    /// The subject's attributes with known names, in order: "CN=alice,O=Example".
    public let distinguishedName: String

    /// Nil where `certificate` is not DER of an X.509 certificate.
    init?(der certificate: [UInt8]) {
        var outer = DERReader(certificate[...])
        guard var whole = outer.enter(0x30), var body = whole.enter(0x30) else { return nil }
        if body.peek == 0xa0 { _ = body.next() }
        // Serial number, signature algorithm, issuer, validity.
        for _ in 0..<4 { guard body.next() != nil else { return nil } }
        guard var subject = body.enter(0x30) else { return nil }
        var parts: [String] = []
        var name: String?
        while var set = subject.enter(0x31) {
            while var attribute = set.enter(0x30) {
                guard let type = attribute.next(), type.tag == 0x06,
                    let value = attribute.next()
                else { return nil }
                guard let label = Self.labels[Array(type.content)] else { continue }
                let text = String(decoding: value.content, as: UTF8.self)
                if label == "CN" { name = text }
                parts.append("\(label)=\(text)")
            }
        }
        commonName = name
        distinguishedName = parts.joined(separator: ",")
    }

    private static let labels: [[UInt8]: String] = [
        [0x55, 0x04, 0x03]: "CN", [0x55, 0x04, 0x06]: "C", [0x55, 0x04, 0x07]: "L",
        [0x55, 0x04, 0x08]: "ST", [0x55, 0x04, 0x0a]: "O", [0x55, 0x04, 0x0b]: "OU",
    ]
}

/// Walks over the elements of a DER encoding; nil wherever it is not one.
private struct DERReader {
    private var rest: ArraySlice<UInt8>

    init(_ bytes: ArraySlice<UInt8>) {
        rest = bytes
    }

    var peek: UInt8? { rest.first }

    mutating func next() -> (tag: UInt8, content: ArraySlice<UInt8>)? {
        guard rest.count >= 2, let tag = rest.popFirst(), let first = rest.popFirst() else {
            return nil
        }
        var length = Int(first)
        if first >= 0x80 {
            let count = Int(first & 0x7f)
            guard count >= 1, count <= 3, rest.count >= count else { return nil }
            length = 0
            for _ in 0..<count { length = length << 8 | Int(rest.removeFirst()) }
        }
        guard length <= rest.count else { return nil }
        let content = rest.prefix(length)
        rest = rest.dropFirst(length)
        return (tag, content)
    }

    /// The element's inside, where it has that tag.
    mutating func enter(_ tag: UInt8) -> DERReader? {
        guard peek == tag, let element = next() else { return nil }
        return DERReader(element.content)
    }
}
