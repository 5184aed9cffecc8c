// What is printed: JSON, tables, and how an end becomes an exit status.

import ProcgateClient
import Testing

@testable import procgate

@Suite("Output")
struct OutputTests {
    @Test("JSON is written on one line, or indented, with everything escaped that has to be")
    func json() {
        let value = JSON.object([
            ("a", .number(-1)), ("b", .array([.null, .bool(true), .array([])])),
            ("c\"", .string("\\ \n\t\u{1} ü 😀 \u{7F}")),
        ])
        #expect(
            value.text
                == #"{"a":-1,"b":[null,true,[]],"c\"":"\\ \n\t\u0001 ü 😀 \u007f"}"#)
        #expect(JSON.array([.number(1), .number(2)]).indented == "[\n  1,\n  2\n]")
    }

    @Test(
        "Base64 is padded",
        arguments: [
            ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy"),
        ])
    func base64(text: String, expected: String) {
        #expect(procgate.base64(Array(text.utf8)) == expected)
    }

    @Test("Columns are as wide as what stands in them, and the last is cut to the terminal")
    func table() {
        var table = Table(["ID", "COMMAND"])
        table.append(["1", "short"])
        table.append(["12345", "a long command with words"])
        #expect(
            table.lines(width: nil) == [
                "ID     COMMAND", "1      short", "12345  a long command with words",
            ])
        #expect(
            table.lines(width: 17) == ["ID     COMMAND", "1      short", "12345  a long co…"])
        for width in 1...40 {
            #expect(table.lines(width: width).allSatisfy { displayWidth($0) <= width })
        }
        #expect(table.lines(width: 4) == ["ID …", "1  …", "123…"])
    }

    @Test("Wide characters take two columns, and what moves the cursor none")
    func widths() {
        #expect(displayWidth("日本") == 4)
        #expect(displayWidth("é") == 1)
        #expect(displayWidth("e\u{301}") == 1)
        #expect(displayWidth("\u{1112}\u{1161}\u{11AB}") == 2)
        #expect(displayWidth("❤\u{FE0F}") == 2)
        #expect(displayWidth("a\u{200B}b") == 2)
        #expect(Table.cut("日本語", to: 4) == "日…")
        #expect(printable("a\u{1B}[2Jb\nc") == "a?[2Jb⏎c")
        #expect(printable("a\u{202E}b\u{2069}c\u{2028}d") == "a?b?c?d")
    }

    @Test("A message of several lines becomes one")
    func lines() {
        #expect(oneLine("Choose:\n  - a\n  - b\n") == "Choose: a, b")
        #expect(oneLine("one\ntwo\n") == "one two")
        #expect(oneLine("") == "wrong usage")
    }

    @Test("A value that is no duration or size is told with what one would write")
    func explained() {
        #expect(
            inOurWords("The value '5' is invalid for '--timeout <duration>'")
                == "--timeout: '5' is no duration: write 250ms, 5s, 2m or 1h")
        #expect(
            inOurWords("The value 'a' is invalid for 'b' is invalid for '--s <size>'")
                == "--s: 'a' is invalid for 'b' is no size: write 64KiB, 4MiB or 1GiB")
        let other = "The value 'x' is invalid for '--scope <scope>'"
        #expect(inOurWords(other) == other)
    }

    @Test("Arguments are shown as one would type them")
    func quoting() {
        #expect(ProcessText.quoted("plain-1.txt") == "plain-1.txt")
        #expect(ProcessText.quoted("it's $x") == #"'it'\''s $x'"#)
        #expect(ProcessText.quoted("") == "''")
    }

    @Test("A line is counted where it begins, whatever comes between its parts")
    func lineParts() {
        var splitter = LineSplitter()
        func lines(_ text: String, _ stream: OutputStream) -> [String] {
            splitter.parts(of: Array(text.utf8), stream, at: 0).map { part in
                "\(part.line)\(part.startsLine ? "+" : "-")"
                    + String(decoding: part.bytes, as: UTF8.self)
            }
        }
        #expect(lines("a\nb", .stdout) == ["1+a\n", "2+b"])
        #expect(lines("c\n", .stderr) == ["3+c\n"])
        #expect(lines("\n\nd\n", .stdout) == ["2-\n", "4+\n", "5+d\n"])
        #expect(lines("e", .stdout) == ["6+e"])
        splitter.skip()
        #expect(lines("f", .stdout) == ["7+f"])
        #expect(lines("", .stdout) == [])
    }

    @Test("The last lines are kept, and no part of an older one", arguments: [0, 1, 2, 3, 5, 100])
    func lastLines(limit: Int) {
        var tail = LineTail<Int>(limit: limit)
        // The second line goes on after the third has begun.
        let lines = [1, 2, 3, 2, 4, 5, 5, 6]
        for (item, line) in lines.enumerated() { tail.append(item, line: line) }
        let wanted = lines.indices.filter { lines[$0] > 6 - limit }
        #expect(tail.kept == wanted)
    }

    @Test(
        "A program that does not exist is told from one that cannot be executed",
        arguments: [
            (.startFailed, "cannot execute 'x': No such file or directory", .notFound),
            (.startFailed, "cannot execute 'x': Permission denied", .notExecutable),
            (.startFailed, "cannot connect its pipes: Too many open files", .failure),
            (.queueTimeout, "cannot execute 'x': Permission denied", .failure),
        ] as [(TerminationReason, String, procgate.ExitStatus)])
    func statuses(reason: TerminationReason, error: String, status: procgate.ExitStatus) {
        #expect(Outcome.failedStatus(reason, error) == status)
    }

    @Test("An id is cut behind its node")
    func ids() {
        #expect(ProcessID.cut("0123456789abcdef") == "0123456789ab")
        #expect(ProcessID.cut("web-1-0123456789abcdef") == "web-1-0123456789ab")
        #expect(ProcessID.cut("short") == "short")
        #expect(ProcessID.isLongEnough("abcd") && !ProcessID.isLongEnough("abc"))
        #expect(ProcessID.isLongEnough("web-1-abcd") && !ProcessID.isLongEnough("web-1-abc"))
    }

    @Test("Times and sizes are short")
    func figures() {
        #expect(ProcessText.length(999) == "999ms")
        #expect(ProcessText.length(119_999) == "119s")
        #expect(ProcessText.length(7_199_999) == "119m")
        #expect(ProcessText.length(-5) == "0ms")
        #expect(ProcessText.size(1023) == "1023B")
        #expect(ProcessText.size(1536) == "1.5KiB")
        #expect(ProcessText.size(16 << 20) == "16MiB")
        #expect(ProcessText.timestamp(1_000_000_000_007) == "2001-09-09T01:46:40.007Z")
    }
}
