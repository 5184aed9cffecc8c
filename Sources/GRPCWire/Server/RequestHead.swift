// What a request's fields say, read once for all calls that carry the same ones.

import HTTP2

/// The meaning of a request's header block. Kept with the block, which calls share.
final class RequestHead {
    /// What is to be done with the request.
    enum Disposition {
        case call(ServerMethod)
        /// A call that is answered with a status alone.
        case refused(GRPCStatus)
        /// Not gRPC: an HTTP status and a short body.
        case plain(PlainAnswer)
    }

    struct PlainAnswer {
        var status: String
        /// Its length is told to HEAD, too.
        var body: String
        /// The methods that there are, where another one was used.
        var allow: String?
        var isToHead = false
    }

    let path: String
    let disposition: Disposition
    let encoding: CompressionAlgorithm
    let acceptsGzip: Bool
    /// The caller asked for compressed answers, by `procgate-compress: gzip`.
    let wantsGzip: Bool
    /// Where the volatile field did not hold it: a `grpc-timeout` cannot be in the block.
    private let block: HeaderBlock
    private(set) lazy var metadata = StatusFields.metadata(block)

    init(_ block: HeaderBlock, router: ServiceRouter) {
        // The block itself holds what is made of it.
        self.block = block.copy()
        var method: String?
        var path = ""
        var contentType: String?
        var encodingName = "identity"
        var accepts = false
        var wants = false
        block.forEach { name, value in
            switch name.count {
            case 5 where name.equals(":path"): path = String(decoding: value, as: UTF8.self)
            case 7 where name.equals(":method"): method = String(decoding: value, as: UTF8.self)
            case 12 where name.equals("content-type"):
                contentType = String(decoding: value, as: UTF8.self)
            case 13 where name.equals("grpc-encoding"):
                encodingName = String(decoding: value, as: UTF8.self)
            case 17 where name.equals("procgate-compress"): wants = value.equals("gzip")
            case 20 where name.equals("grpc-accept-encoding"):
                accepts = Self.lists(value, "gzip")
            default: break
            }
            return true
        }
        self.path = path
        encoding = CompressionAlgorithm(rawValue: encodingName) ?? .identity
        acceptsGzip = accepts
        wantsGzip = wants
        disposition = Self.decide(
            method: method, path: path, contentType: contentType, encoding: encodingName,
            router: router)
    }

    private static func decide(
        method: String?, path: String, contentType: String?, encoding: String,
        router: ServiceRouter
    ) -> Disposition {
        guard method == "POST" else {
            return .plain(answer(method: method, path: path, isServed: router[path] != nil))
        }
        guard let contentType, isGRPC(contentType) else {
            return .plain(
                PlainAnswer(status: "415", body: "gRPC has content-type application/grpc\n"))
        }
        guard let served = router[path] else { return .refused(router.unknown(path)) }
        guard CompressionAlgorithm(rawValue: encoding) != nil else {
            return .refused(
                GRPCStatus(.unimplemented, "messages cannot be compressed by \(encoding)"))
        }
        return .call(served)
    }

    private static func answer(method: String?, path: String, isServed: Bool) -> PlainAnswer {
        let isToHead = method == "HEAD"
        let isReading = method == "GET" || isToHead
        var answer: PlainAnswer
        if path.prefix(while: { $0 != "?" }) == "/healthz" {
            answer =
                isReading
                ? PlainAnswer(status: "200", body: "ok\n")
                : PlainAnswer(status: "405", body: "/healthz is GET\n", allow: "GET, HEAD")
        } else if isReading, !isServed {
            answer = PlainAnswer(status: "404", body: "not found\n")
        } else {
            answer = PlainAnswer(status: "405", body: "gRPC is POST\n", allow: "POST")
        }
        answer.isToHead = isToHead
        return answer
    }

    /// `application/grpc`, alone or with `+proto`, and any parameters; in any case.
    private static func isGRPC(_ type: String) -> Bool {
        let base = type.prefix { $0 != ";" && $0 != " " && $0 != "\t" }.lowercased()
        return base == "application/grpc" || base == "application/grpc+proto"
    }

    private static func lists(_ value: UnsafeRawBufferPointer, _ name: String) -> Bool {
        String(decoding: value, as: UTF8.self).split(whereSeparator: { $0 == "," || $0 == " " })
            .contains { $0 == name }
    }
}
