// Random values of the test messages, the same for the same generator.

extension SeededGenerator {
    mutating func bool() -> Bool {
        next() & 1 == 1
    }

    /// One of few: small ones and the ends of the range more often than others.
    mutating func integer<Integer: FixedWidthInteger>(_: Integer.Type = Integer.self) -> Integer {
        switch next() % 5 {
        case 0: 0
        case 1: Integer.max
        case 2: Integer.min
        case 3: Integer(truncatingIfNeeded: next() % 300)
        default: Integer(truncatingIfNeeded: next())
        }
    }

    /// Never a NaN, which would not equal itself.
    mutating func double() -> Double {
        [0, -0.0, 1.5, -.infinity, .leastNonzeroMagnitude, Double(integer(Int32.self))]
            .randomElement(using: &self) ?? 0
    }

    mutating func bytes(upTo count: Int = 20) -> [UInt8] {
        (0..<Int(next() % UInt64(count + 1))).map { _ in UInt8(truncatingIfNeeded: next()) }
    }

    mutating func string() -> String {
        let pieces = ["", "a", "\0", "ü", "\u{1F41A}", "sixteen bytes or more", "\n\"\\"]
        let picked = (0..<next() % 4).map { _ in pieces.randomElement(using: &self) ?? "" }
        return picked.joined()
    }

    mutating func colour() -> Colour {
        let known = Colour.allCases.randomElement(using: &self) ?? .unspecified
        return bool() ? known : Colour(rawValue: integer())
    }

    mutating func list<Element>(_ make: (inout Self) -> Element) -> [Element] {
        (0..<next() % 4).map { _ in make(&self) }
    }

    mutating func map<Key: Hashable, Value>(
        _ make: (inout Self) -> (Key, Value)
    ) -> [Key: Value] {
        Dictionary(list(make)) { _, last in last }
    }

    mutating func scalars() -> Scalars {
        var message = Scalars()
        message.doubleValue = double()
        message.floatValue = Float(double())
        message.int32Value = integer()
        message.int64Value = integer()
        message.uint32Value = integer()
        message.uint64Value = integer()
        message.sint32Value = integer()
        message.sint64Value = integer()
        message.fixed32Value = integer()
        message.fixed64Value = integer()
        message.sfixed32Value = integer()
        message.sfixed64Value = integer()
        message.boolValue = bool()
        message.stringValue = string()
        message.bytesValue = bytes()
        message.colour = colour()
        message.far = string()
        return message
    }

    mutating func repeated() -> Repeated {
        var message = Repeated()
        message.doubles = list { $0.double() }
        message.floats = list { Float($0.double()) }
        message.int32s = list { $0.integer() }
        message.int64s = list { $0.integer() }
        message.uint32s = list { $0.integer() }
        message.uint64s = list { $0.integer() }
        message.sint32s = list { $0.integer() }
        message.sint64s = list { $0.integer() }
        message.fixed32s = list { $0.integer() }
        message.fixed64s = list { $0.integer() }
        message.sfixed32s = list { $0.integer() }
        message.sfixed64s = list { $0.integer() }
        message.bools = list { $0.bool() }
        message.strings = list { $0.string() }
        message.byteStrings = list { $0.bytes() }
        message.colours = list { $0.colour() }
        message.inners = list { $0.nested().inner ?? Nested.Inner() }
        return message
    }

    mutating func nested() -> Nested {
        var message = Nested()
        if bool() {
            message.inner = .with { inner in
                inner.kind = Nested.Kind(rawValue: integer())
                if bool() { inner.innermost = .with { $0.text = string() } }
            }
        }
        if bool() { message.innermost = .with { $0.text = string() } }
        message.kind = bool() ? .second : .unspecified
        return message
    }

    mutating func maps(depth: Int = 2) -> Maps {
        var message = Maps()
        message.byInt32 = map { ($0.integer(), $0.string()) }
        message.byInt64 = map { ($0.integer(), $0.bytes()) }
        message.byUint32 = map { ($0.integer(), $0.bool()) }
        message.byUint64 = map { ($0.integer(), $0.double()) }
        message.bySint32 = map { ($0.integer(), Float($0.double())) }
        message.bySint64 = map { ($0.integer(), $0.integer()) }
        message.byFixed32 = map { ($0.integer(), $0.integer()) }
        message.byFixed64 = map { ($0.integer(), $0.colour()) }
        message.bySfixed32 = map { ($0.integer(), $0.integer()) }
        message.bySfixed64 = map { ($0.integer(), $0.integer()) }
        message.byBool = map { ($0.bool(), $0.nested()) }
        if depth > 0 { message.byString = map { ($0.string(), $0.maps(depth: depth - 1)) } }
        return message
    }

    mutating func choice(depth: Int = 3) -> Choice {
        var message = Choice()
        switch next() % 11 {
        case 0: message.event = .number(integer())
        case 1: message.event = .text(string())
        case 2: message.event = .data(bytes())
        case 3: message.event = .flag(bool())
        case 4: message.event = .colour(colour())
        case 5: message.event = .ratio(double())
        case 6: message.event = .message(.with { $0.text = string() })
        case 7: message.event = .choice(depth > 0 ? choice(depth: depth - 1) : Choice())
        case 8: message.event = .scalars(scalars())
        case 9: message.event = .signed(integer())
        default: break
        }
        if bool() { message.other = .only(string()) }
        return message
    }

    mutating func tree(depth: Int = 3) -> Tree {
        var message = Tree()
        message.label = string()
        guard depth > 0 else { return message }
        if bool() { message.left = tree(depth: depth - 1) }
        if bool() { message.right = tree(depth: depth - 1) }
        if bool() { message.children = list { $0.tree(depth: depth - 2) } }
        if bool() { message.byName = map { ($0.string(), $0.tree(depth: depth - 2)) } }
        if bool() { message.branch = .with { $0.tree = tree(depth: depth - 1) } }
        return message
    }
}
