// protoc, as the other implementation, and the files of the repository.

import Glibc

struct FileError: Error {
    let path: String
}

/// The repository's root.
let repository = #filePath.split(separator: "/").dropLast(3).reduce("") { $0 + "/" + $1 }

func textFile(_ path: String) throws -> String {
    String(decoding: try contents(of: "\(repository)/\(path)"), as: UTF8.self)
}

func contents(of path: String) throws -> [UInt8] {
    guard let file = fopen(path, "r") else { throw FileError(path: path) }
    defer { fclose(file) }
    return readAll(file)
}

private func readAll(_ file: UnsafeMutablePointer<FILE>) -> [UInt8] {
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 4096)
    while true {
        let count = fread(&chunk, 1, chunk.count, file)
        if count == 0 { return bytes }
        bytes += chunk[..<count]
    }
}

enum Protoc {
    static let isInstalled = system("protoc --version >/dev/null 2>&1") == 0

    /// What protoc makes of an encoding when it decodes it and encodes it again.
    static func reencoded(_ bytes: [UInt8], as type: String) throws -> [UInt8] {
        let text = try run("--decode=\(type)", input: bytes)
        return try run("--encode=\(type)", input: text)
    }

    private static func run(_ option: String, input: [UInt8]) throws -> [UInt8] {
        var path = [UInt8]("/tmp/procgate-protoc-XXXXXX\0".utf8).map { CChar(bitPattern: $0) }
        let descriptor = mkstemp(&path)
        guard descriptor >= 0 else { throw FileError(path: "/tmp") }
        let name = path.withUnsafeBufferPointer {
            String(decoding: $0.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }
        defer { unlink(name) }
        let written = write(descriptor, input, input.count)
        close(descriptor)
        guard written == input.count else { throw FileError(path: name) }
        let protos = "\(repository)/Tests/ProtobufTests/Protos"
        let command = "protoc -I\(protos) \(option) procgate/test/features.proto <\(name)"
        guard let pipe = popen(command, "r") else { throw FileError(path: command) }
        let output = readAll(pipe)
        guard pclose(pipe) == 0 else { throw FileError(path: command) }
        return output
    }
}
