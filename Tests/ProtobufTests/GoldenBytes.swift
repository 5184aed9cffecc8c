// Written by Golden/generate from the files beside it, by way of protoc --encode.

/// Encodings that another implementation made.
enum Golden {
    /// procgate.test.Choice
    static let choice = bytes(
        """
        420a42083a060a04646565705a00
        """)

    /// procgate.test.Choice
    static let choiceDefault = bytes(
        """
        0800
        """)

    /// procgate.v1.ExecRequest
    static let execRequest = bytes(
        """
        0a530a046e6f646512022d65120e636f6e736f6c652e6c6f672831291a042f73727622100a084e4f
        44455f454e5612047465737428e0d4033a04085010184a0908808080800110dc0b50015801720608
        8080401001120668656c6c6f0a1a056b65792d3120072802
        """)

    /// grpc.health.v1.HealthListResponse
    static let health = bytes(
        """
        0a200a1a70726f63676174652e76312e50726f636573735365727669636512020801
        """)

    /// procgate.test.Keywords
    static let keywords = bytes(
        """
        0a05636c617373120764656661756c741a0473656c662204696e69742a0466756e633202696e3a04
        626173654204547970654a0272304a02723152090a026f6e12036f66665a066669656c6473620561
        72656e616a0966756c6c5f6e616d6572066c61796f75747a07656e636f6465648201046974656d8a
        01066e5f6974656d92010355524c9a01056d69786564aa01036e696c
        """)

    /// procgate.test.Maps
    static let maps = bytes(
        """
        0a1608ffffffffffffffffff0112096d696e7573206f6e65120e0880808080808080808001120100
        1a0808ffffffff0f1001221408ffffffffffffffffff0111000000000000e03f2a07080d15000020
        40320d080f10f7ffffffffffffffff013a070d010000001002420b09030000000000000010024a07
        0dffffffff1003521209fdffffffffffffff1104000000000000005a0608011202180162100a016b
        120b0a0908011205696e6e6572
        """)

    /// procgate.v1.ProcessEvent
    static let processEvent = bytes(
        """
        1a540a4e0a03702d3110051a05736c6565702201393a090a036a6f621202343240e72450096080d0
        95ffbc316881d095ffbc3170e9d795ffbc3178048201075349474b494c4c8a0106080c1080804090
        010320012803
        """)

    /// grpc.reflection.v1.ServerReflectionResponse
    static let reflection = bytes(
        """
        0a0168120a0a01682a050a017410033a08080512046e6f6e65
        """)

    /// procgate.test.Repeated
    static let repeated = bytes(
        """
        0a18000000000000000000000000000000809c7500883ce4377e12080000803f000000bf1a1000ff
        ffffffffffffffff01ffffffff07220bffffffffffffffffff01012a0300ac02320affffffffffff
        ffffff013a070102ffffffff0f420b01feffffffffffffffff014a08010000000200000052080300
        0000000000005a04ffffffff6210ffffffffffffffff00000000000000006a03010001720072036f
        6e65720374776f7a007a010182010c01f9ffffffffffffffff01008a01008a01070a030a01781001
        """)

    /// procgate.test.Scalars
    static let scalars = bytes(
        """
        09000000000000f8bf150000803e1880808080f8ffffffff01208080808080808080800128ffffff
        ff0f30ffffffffffffffffff0138ffffffff0f40ffffffffffffffffff014dffffffff51ffffffff
        ffffffff5dfeffffff61fdffffffffffffff6801720b61006220c3bc20f09f909a7a0300ff808001
        f9ffffffffffffffff01faffffff0f03666172
        """)

    /// google.rpc.Status
    static let status = bytes(
        """
        0805120f6e6f20737563682070726f636573731a520a28747970652e676f6f676c65617069732e63
        6f6d2f676f6f676c652e7270632e4572726f72496e666f12260a1150524f434553535f4e4f545f46
        4f554e44120870726f63676174651a070a026964120178
        """)

    /// procgate.test.Tree
    static let tree = bytes(
        """
        0a0332016c12020a001a04320263301a0432026331220c0a016e120732056e616d65642a050a0332
        01623204726f6f74
        """)

    /// procgate.test.Unpacked
    static let unpacked = bytes(
        """
        09000000000000f03f09000000000000004010ffffffffffffffffff0110001809180a2001200028
        02
        """)

    /// From hexadecimal digits, with white space among them.
    static func bytes(_ hex: String) -> [UInt8] {
        var bytes: [UInt8] = []
        var high: UInt8?
        for digit in hex {
            guard let value = digit.hexDigitValue else { continue }
            if let first = high {
                bytes.append(first << 4 | UInt8(value))
                high = nil
            } else {
                high = UInt8(value)
            }
        }
        return bytes
    }
}
