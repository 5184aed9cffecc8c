// swift-tools-version: 6.2
import PackageDescription

let swift: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("ExistentialAny"),
    .treatAllWarnings(as: .error),
]

let nio: [Target.Dependency] = [
    .product(name: "NIOCore", package: "swift-nio"),
    .product(name: "NIOPosix", package: "swift-nio"),
]

/// The C of this package says where its behaviour is undefined, in builds with a sanitizer: see
/// `Tests/Sanitizers`.
let c: [CSetting] =
    Context.environment["PROCGATE_SANITIZE"] == nil
    ? [] : [.unsafeFlags(["-fsanitize=undefined"])]

/// A Swift target of this package with the settings that all of them share.
func swiftTarget(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: swift)
}

func swiftTests(
    _ name: String, _ dependencies: [Target.Dependency], exclude: [String] = []
) -> Target {
    .testTarget(name: name, dependencies: dependencies, exclude: exclude, swiftSettings: swift)
}

let package = Package(
    name: "procgate",
    platforms: [.macOS(.v15)],
    products: [
        .executable(name: "procgate", targets: ["procgate"]),
        .executable(name: "client-benchmark", targets: ["client-benchmark"]),
        .library(name: "ProcgateClient", targets: ["ProcgateClient"]),
        .library(name: "GRPCWire", targets: ["GRPCWire"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
    ],
    targets: [
        // C: system libraries, what Glibc's module hides, and what protoc-c wrote.
        .systemLibrary(
            name: "CNGHTTP2", pkgConfig: "libnghttp2",
            providers: [.apt(["libnghttp2-dev"]), .brew(["libnghttp2"])]),
        .systemLibrary(
            name: "CProtobufC", pkgConfig: "libprotobuf-c",
            providers: [.apt(["libprotobuf-c-dev"]), .brew(["protobuf-c"])]),
        .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
        .target(name: "CLinux", cSettings: c),
        .target(name: "CProtos", dependencies: ["CProtobufC"], cSettings: c),
        .target(name: "CGRPCTesting", dependencies: ["CProtobufC"]),
        .target(name: "CTestProtos", dependencies: ["CProtobufC"], path: "Tests/CTestProtos"),

        // Messages: the runtime over protobuf-c, and one generated module for each package.
        swiftTarget("Protobuf", ["CProtobufC"]),
        swiftTarget("ProcgateV1", ["Protobuf", "CProtos"]),
        swiftTarget("ProcgateInternal", ["Protobuf", "ProcgateV1", "CProtos"]),
        swiftTarget("GRPCProtos", ["Protobuf", "CProtos"]),
        // The services of gRPC's interoperability tests; in no product.
        swiftTarget("GRPCTesting", ["Protobuf", "CGRPCTesting"]),

        // The supervisor's side: no HTTP, no NIO.
        swiftTarget("LinuxIO", ["CLinux"]),
        swiftTarget(
            "OutputLog", ["CLinux", .product(name: "DequeModule", package: "swift-collections")]),
        swiftTarget(
            "Supervision",
            [
                "LinuxIO", "CLinux", "OutputLog", "ProcgateV1",
                .product(name: "DequeModule", package: "swift-collections"),
            ]),
        swiftTarget(
            "SupervisorLink",
            ["ProcgateInternal", "ProcgateV1", "LinuxIO", "OutputLog", "Supervision"] + nio),

        // The wire: no process.
        swiftTarget(
            "HTTP2",
            ["CNGHTTP2", .product(name: "DequeModule", package: "swift-collections")] + nio),
        swiftTarget(
            "GRPCWire",
            [
                "HTTP2", "Protobuf", "CZlib",
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "NIOTLS", package: "swift-nio"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "DequeModule", package: "swift-collections"),
            ] + nio),

        // Where the two meet, and who calls them.
        swiftTarget(
            "ProcgateServer",
            [
                "GRPCWire", "HTTP2", "SupervisorLink", "OutputLog", "ProcgateV1", "GRPCProtos",
                "Protobuf",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "CoreMetrics", package: "swift-metrics"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
            ] + nio),
        swiftTarget(
            "ProcgateClient",
            [
                "GRPCWire", "ProcgateV1", "GRPCProtos", "Protobuf",
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ] + nio),
        .executableTarget(
            name: "procgate",
            dependencies: [
                "ProcgateServer", "ProcgateClient", "SupervisorLink", "Supervision", "LinuxIO",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ] + nio,
            swiftSettings: swift),

        // What the benchmarks measure the client by.
        .executableTarget(
            name: "client-benchmark",
            dependencies: ["ProcgateClient"],
            path: "Benchmarks/clients/swift",
            swiftSettings: swift),

        // The example in Swift, which is a package of its own for those who copy it.
        .executableTarget(
            name: "example-steps",
            dependencies: ["ProcgateClient"],
            path: "Examples/swift/Sources/steps",
            swiftSettings: swift),

        // The two sides of gRPC's interoperability tests; in no product.
        .executableTarget(
            name: "interop-server",
            dependencies: [
                "GRPCWire", "GRPCTesting", "Protobuf",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ] + nio,
            path: "Tests/Interop/server",
            swiftSettings: swift),
        .executableTarget(
            name: "interop-client",
            dependencies: [
                "GRPCWire", "GRPCTesting", "Protobuf",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ] + nio,
            path: "Tests/Interop/client",
            swiftSettings: swift),

        .testTarget(
            name: "ProtobufTests",
            dependencies: [
                "Protobuf", "ProcgateV1", "ProcgateInternal", "GRPCProtos", "GRPCTesting",
                "CTestProtos",
            ],
            exclude: ["Golden", "Protos"],
            swiftSettings: swift),
        swiftTests("OutputLogTests", ["OutputLog"]),
        swiftTests(
            "SupervisionTests",
            [
                "Supervision", "SupervisorLink", "LinuxIO", "CLinux", "OutputLog", "ProcgateV1",
                "ProcgateInternal", "Protobuf",
            ]),
        swiftTests("HTTP2Tests", ["HTTP2"] + nio, exclude: ["Golden/make_golden.py"]),
        swiftTests(
            "ProcgateClientTests",
            ["ProcgateClient", "procgate", "GRPCWire", "GRPCProtos", "ProcgateV1", "Protobuf"]
                + nio),
        swiftTests("CommandLineTests", ["procgate", "ProcgateClient"]),
        swiftTests(
            "GRPCWireTests",
            [
                "GRPCWire", "HTTP2", "Protobuf", "GRPCProtos",
                .product(name: "NIOEmbedded", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ] + nio),
    ]
)

// The fuzzers, which link a main of the compiler's own: only where `make fuzz` asks for them.
if Context.environment["PROCGATE_FUZZ"] != nil {
    package.targets.append(
        .executableTarget(
            name: "fuzz",
            dependencies: [
                "HTTP2", "GRPCWire", "Protobuf", "ProcgateV1", "ProcgateInternal", "GRPCProtos",
                "OutputLog", "Supervision", "SupervisorLink", "LinuxIO", "CLinux",
                "ProcgateServer", .product(name: "NIOEmbedded", package: "swift-nio"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ] + nio,
            path: "Tests/Fuzz/Targets",
            swiftSettings: swift))
}
