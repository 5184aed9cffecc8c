// What the fields of an answer say, read once for all answers that carry the same ones.

import HTTP2

/// The meaning of an answer's first header block. Kept with the block, which answers share.
final class AnswerHead {
    enum Meaning {
        case answer(isCompressed: Bool)
        /// The answer is a status alone.
        case status(GRPCStatus)
        /// Not an answer that can be used.
        case failure(GRPCStatus)
    }

    let meaning: Meaning
    let metadata: Metadata

    private init(_ block: HeaderBlock) {
        metadata = StatusFields.metadata(block)
        meaning = Self.read(block)
    }

    static func of(_ block: HeaderBlock) -> AnswerHead {
        if let known = block.annotation as? AnswerHead { return known }
        let head = AnswerHead(block)
        block.annotation = head
        return head
    }

    private static func read(_ block: HeaderBlock) -> Meaning {
        if let status = StatusFields.status(block) { return .status(status) }
        let http = block.string(":status") ?? ""
        let type = block.string("content-type") ?? ""
        guard http == "200", type.hasPrefix("application/grpc") else {
            return .failure(TransportStatus.http(http))
        }
        let encoding = block.string("grpc-encoding") ?? "identity"
        guard let algorithm = CompressionAlgorithm(rawValue: encoding) else {
            return .failure(GRPCStatus(.internal, "the server compresses by \(encoding)"))
        }
        return .answer(isCompressed: algorithm == .gzip)
    }
}

/// The meaning of an answer's trailers.
final class AnswerEnd {
    let status: GRPCStatus

    private init(_ block: HeaderBlock) {
        status =
            StatusFields.status(block)
            ?? .transport(.unknown, "the answer ends without a status")
    }

    static func of(_ block: HeaderBlock) -> AnswerEnd {
        if let known = block.annotation as? AnswerEnd { return known }
        let end = AnswerEnd(block)
        block.annotation = end
        return end
    }
}
