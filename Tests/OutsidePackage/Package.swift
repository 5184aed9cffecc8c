// swift-tools-version: 6.2
import PackageDescription

let package = Package(
    name: "outside",
    platforms: [.macOS(.v15)],
    dependencies: [.package(name: "procgate", path: "../..")],
    targets: [
        .executableTarget(
            name: "outside",
            dependencies: [.product(name: "ProcgateClient", package: "procgate")],
            swiftSettings: [.swiftLanguageMode(.v6)])
    ]
)
