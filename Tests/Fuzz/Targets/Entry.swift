// Where libFuzzer calls in. One program holds all targets; the environment names the one to run.

import Glibc

/// What can be fuzzed, by the name that `PROCGATE_FUZZ_TARGET` gives.
private let targets: [String: @Sendable (UnsafeRawBufferPointer) -> Void] = [
    "grpc-server": fuzzGRPCServer,
    "message-reader": fuzzMessageReader,
    "protobuf": fuzzProtobuf,
    "link-server": fuzzLinkServer,
    "link-client": fuzzLinkClient,
    "token-file": fuzzTokenFile,
    "detach-keys": fuzzDetachKeys,
]

private let target: @Sendable (UnsafeRawBufferPointer) -> Void = {
    let name = getenv("PROCGATE_FUZZ_TARGET").map { String(cString: $0) } ?? ""
    guard let target = targets[name] else {
        let names = targets.keys.sorted().joined(separator: ", ")
        print("PROCGATE_FUZZ_TARGET is \"\(name)\"; it can be: \(names)")
        exit(2)
    }
    return target
}()

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    target(UnsafeRawBufferPointer(start: bytes, count: count))
    return 0
}
