// What is typed at a terminal: however it is cut into reads, nothing is lost before the keys that
// leave the session, and nothing after them is passed on. A program cannot be linked to another
// program: the files of the command line that this target needs are linked into its folder.

func fuzzDetachKeys(_ bytes: UnsafeRawBufferPointer) {
    var whole = DetachKeys()
    let all = whole.take(Array(bytes))
    let expected = all.detach ? all.pass : all.pass + whole.rest()

    var input = FuzzInput(bytes)
    var keys = DetachKeys()
    var passed: [UInt8] = []
    var hasLeft = false
    while !input.isEmpty, !hasLeft {
        let next = keys.take(input.take(1 + passed.count % 3))
        passed += next.pass
        hasLeft = next.detach
    }
    if !hasLeft { passed += keys.rest() }
    check(hasLeft == all.detach, "the keys are found in one reading alone")
    check(passed == expected, "\(passed) was passed on, not \(expected)")
    check(hasLeft || passed.elementsEqual(bytes), "what was typed is not what was passed on")
    check(hasLeft || keys.rest().isEmpty, "something is still kept back")
}
