// Header lists of gRPC: what stands at the head and at the end of an answer, made of values,
// and a status read from received fields.

import HTTP2

enum StatusFields {
    /// The head of an answer whose messages are not compressed.
    static let responseHead = HeaderList(immortal: [
        ":status": "200", "content-type": "application/grpc",
        "grpc-accept-encoding": "identity,gzip",
    ])
    /// The head of an answer whose messages may be compressed.
    static let compressedResponseHead = HeaderList(immortal: [
        ":status": "200", "content-type": "application/grpc",
        "grpc-accept-encoding": "identity,gzip",
        "grpc-encoding": "gzip",
    ])
    static let okTrailers = HeaderList(immortal: ["grpc-status": "0"])

    /// `grpc-message` is cut to that, encoded. It may quote what the caller sent, and peers
    /// refuse header blocks above 8 to 16 KiB; HTTP2 sends none above 64 KiB.
    private static let messageBytes = 1024
    /// Details that are larger are left out: 8 KiB once they are encoded.
    private static let detailsBytes = 6 * 1024

    static func responseHead(
        compression: CompressionAlgorithm, metadata: Metadata
    ) -> HeaderList {
        guard !metadata.isEmpty else {
            return compression == .gzip ? compressedResponseHead : responseHead
        }
        var fields = HeaderListBuilder()
        fields.append(":status", "200")
        fields.append("content-type", "application/grpc")
        fields.append("grpc-accept-encoding", "identity,gzip")
        if compression == .gzip { fields.append("grpc-encoding", "gzip") }
        append(metadata, to: &fields)
        return HeaderList(fields)
    }

    static func trailers(_ status: GRPCStatus, metadata: Metadata) -> HeaderList {
        if status.code == .ok, metadata.isEmpty, status.trailers.isEmpty, status.message.isEmpty,
            status.details.isEmpty
        {
            return okTrailers
        }
        var fields = HeaderListBuilder()
        append(status, metadata, to: &fields)
        return HeaderList(fields)
    }

    /// Fields of an answer that has no messages: head and trailers in one.
    static func trailersOnly(
        _ status: GRPCStatus, httpStatus: String = "200", metadata: Metadata
    ) -> HeaderList {
        var fields = HeaderListBuilder()
        fields.append(":status", httpStatus)
        fields.append("content-type", "application/grpc")
        if status.code == .unimplemented { fields.append("grpc-accept-encoding", "identity,gzip") }
        append(status, metadata, to: &fields)
        return HeaderList(fields)
    }

    private static func append(
        _ status: GRPCStatus, _ metadata: Metadata, to fields: inout HeaderListBuilder
    ) {
        fields.append("grpc-status", String(status.code.rawValue))
        if !status.message.isEmpty {
            fields.append(
                "grpc-message",
                PercentEncoding.encode(status.message, limitBytes: messageBytes))
        }
        if !status.details.isEmpty, status.details.count <= detailsBytes {
            fields.append("grpc-status-details-bin", Base64.encode(status.details))
        }
        append(metadata, to: &fields)
        append(status.trailers, to: &fields)
    }

    static func append(_ metadata: Metadata, to fields: inout HeaderListBuilder) {
        for entry in metadata.entries where !isReserved(entry.key) {
            fields.append(name: entry.key, value: Metadata.encoded(entry.value))
        }
    }

    /// Names that are the protocol's, not the application's.
    static func isReserved(_ key: String) -> Bool {
        switch key {
        case "content-type", "te", "host", "connection", "transfer-encoding", "grpc-status",
            "grpc-message", "grpc-status-details-bin", "grpc-timeout", "grpc-encoding",
            "grpc-accept-encoding", "grpc-message-type":
            true
        default: key.hasPrefix(":")
        }
    }

    /// The application's fields of a received block.
    static func metadata(_ block: HeaderBlock) -> Metadata {
        var metadata = Metadata()
        block.forEach { name, value in
            if name.first == UInt8(ascii: ":") { return true }
            if isReserved(String(decoding: name, as: UTF8.self)) { return true }
            metadata.appendReceived(name: name, value: value)
            return true
        }
        return metadata
    }

    /// The status in a block of trailers; nil where it has no `grpc-status`.
    static func status(_ block: HeaderBlock) -> GRPCStatus? {
        var status = GRPCStatus(.unknown)
        var hasCode = false
        block.forEach { name, value in
            if name.equals("grpc-status") {
                hasCode = true
                let text = String(decoding: value, as: UTF8.self)
                status.code = Int(text).flatMap(GRPCCode.init(rawValue:)) ?? .unknown
            } else if name.equals("grpc-message") {
                status.message = PercentEncoding.decode(value)
            } else if name.equals("grpc-status-details-bin") {
                status.details = Base64.decode(value) ?? []
            }
            return true
        }
        guard hasCode else { return nil }
        status.trailers = metadata(block)
        return status
    }
}
