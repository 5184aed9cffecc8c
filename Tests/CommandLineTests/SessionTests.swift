// Sessions: the keys that leave them, and what signals mean in them.

import Glibc
import Testing

@testable import procgate

@Suite("Sessions")
struct SessionTests {
    @Test("^P^Q leaves, wherever the reads cut it, and a ^P alone goes through")
    func detachKeys() {
        var keys = DetachKeys()
        #expect(keys.take([0x61, 0x10]) == ([0x61], false))
        #expect(keys.holdsBack)
        #expect(keys.take([0x62]) == ([0x10, 0x62], false))
        #expect(!keys.holdsBack)
        #expect(keys.take([0x10, 0x10]) == ([0x10], false))
        #expect(keys.take([0x11, 0x63]) == ([], true))
    }

    @Test("A ^P that nothing follows goes through at the end")
    func lastKey() {
        var keys = DetachKeys()
        #expect(keys.take([0x61, 0x10]) == ([0x61], false))
        #expect(keys.rest() == [0x10])
        #expect(keys.rest() == [])
        #expect(keys.take([0x11]) == ([0x11], false))
    }

    @Test("Keys that begin like themselves are found")
    func repeatedKeys() {
        var keys = DetachKeys([1, 1, 2])
        #expect(keys.take([1, 1, 1, 1]) == ([1, 1], false))
        #expect(keys.take([2]) == ([], true))
        var one = DetachKeys([3])
        #expect(one.take([4, 3, 5]) == ([4], true))
    }

    @Test(
        "Keys are read as they are written",
        arguments: [
            ("ctrl-p,ctrl-q", [0x10, 0x11]), ("ctrl-A", [0x01]), ("CTRL-[,x", [0x1B, 0x78]),
            ("ctrl-@,ctrl-_,ctrl-\\", [0x00, 0x1F, 0x1C]), ("~,.", [0x7E, 0x2E]),
        ] as [(String, [UInt8])])
    func writtenKeys(text: String, bytes: [UInt8]) {
        #expect(DetachKeysArgument(argument: text)?.bytes == bytes)
    }

    @Test(
        "What is no key is refused",
        arguments: ["", ",", "ctrl-", "ctrl-1", "ab", "é", "ctrl-p,", "\u{7}"])
    func noKeys(text: String) {
        #expect(DetachKeysArgument(argument: text) == nil)
    }

    @Test("A command gets the first interrupt, is stopped by the second and left by the third")
    func interrupts() {
        var plan = SignalPlan()
        #expect(plan.action(for: SIGINT) == .pass)
        #expect(plan.action(for: SIGWINCH) == .resize)
        #expect(plan.action(for: SIGQUIT) == .stop)
        #expect(plan.action(for: SIGINT) == .leave)
        plan = SignalPlan()
        #expect(plan.action(for: SIGTERM) == .leave)
    }

    @Test("A joined process gets every interrupt, as long as the gateway answers")
    func joined() {
        var plan = SignalPlan()
        plan.session = .joined
        for _ in 0..<5 {
            #expect(plan.action(for: SIGINT) == .pass)
            plan.answered()
        }
        #expect(plan.action(for: SIGINT) == .pass)
        #expect(plan.action(for: SIGINT) == .pass)
        #expect(plan.action(for: SIGINT) == .leave)
        #expect(plan.action(for: SIGHUP) == .leave)
    }

    @Test("On a raw terminal signals mean this program")
    func rawTerminal() {
        var plan = SignalPlan()
        plan.session = .commandInTerminal
        #expect(plan.action(for: SIGINT) == .passAndLeave)
        #expect(plan.action(for: SIGHUP) == .passAndLeave)
        #expect(plan.action(for: SIGTERM) == .leave)
        plan.session = .joinedInTerminal
        #expect(plan.action(for: SIGINT) == .leave)
        #expect(plan.action(for: SIGWINCH) == .resize)
    }
}

private func == (left: ([UInt8], Bool), right: ([UInt8], Bool)) -> Bool {
    left.0 == right.0 && left.1 == right.1
}
