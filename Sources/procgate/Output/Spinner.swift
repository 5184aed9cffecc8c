// A sign of life on a terminal while something takes long.

import Glibc

enum Spinner {
    /// Runs `body`; where standard error is a terminal and it takes more than a second, the text
    /// stands there with a figure that turns.
    static func during<Result: Sendable>(
        _ text: String, _ body: () async throws -> Result
    ) async rethrows -> Result {
        guard Terminal.isError else { return try await body() }
        let turning = Task {
            guard (try? await Task.sleep(for: .seconds(1))) != nil else { return }
            for figure in sequence(first: 0, next: { ($0 + 1) % 4 }) {
                put("\r\(["|", "/", "-", "\\"][figure]) \(text)")
                if (try? await Task.sleep(for: .milliseconds(150))) == nil { break }
            }
            put("\r\u{1B}[K")
        }
        do {
            let result = try await body()
            turning.cancel()
            await turning.value
            return result
        } catch {
            turning.cancel()
            await turning.value
            throw error
        }
    }

    private static func put(_ text: String) {
        let bytes = Array(text.utf8)
        _ = write(STDERR_FILENO, bytes, bytes.count)
    }
}
