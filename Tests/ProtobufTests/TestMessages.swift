// Values and bytes that several suites use.

import GRPCProtos
import GRPCTesting
import ProcgateInternal
import ProcgateV1
import Protobuf

/// A wire type, as it stands in the lowest three bits of a tag.
enum WireType: UInt64 {
    case varint = 0
    case fixed64 = 1
    case lengthDelimited = 2
    case startGroup = 3
    case endGroup = 4
    case fixed32 = 5
}

/// Bytes put together by hand.
func wire(_ parts: [UInt8]...) -> [UInt8] {
    parts.flatMap { $0 }
}

func varint(_ value: UInt64, padTo byteCount: Int = 1) -> [UInt8] {
    var bytes: [UInt8] = []
    var rest = value
    while rest > 0x7f || bytes.count + 1 < byteCount {
        bytes.append(UInt8(rest & 0x7f) | 0x80)
        rest >>= 7
    }
    bytes.append(UInt8(rest))
    return bytes
}

func tag(_ number: UInt64, _ type: WireType) -> [UInt8] {
    varint(number << 3 | type.rawValue)
}

func field(_ number: UInt64, _ content: [UInt8]) -> [UInt8] {
    wire(tag(number, .lengthDelimited), varint(UInt64(content.count)), content)
}

func field(_ number: UInt64, varint value: UInt64) -> [UInt8] {
    wire(tag(number, .varint), varint(value))
}

/// A tree that leans to the left.
func tree(depth: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    for _ in 0..<depth { bytes = field(1, bytes) }
    return bytes
}

/// The same numbers for the same seed, on every machine.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed
    }

    /// SplitMix64.
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}

/// Types to feed with arbitrary bytes: of every module, and of every shape.
let messageTypes: [any ProtobufMessage.Type] = [
    Scalars.self, Repeated.self, Unpacked.self, Maps.self, Nested.self, Choice.self, Tree.self,
    Forest.self, Keywords.self, AnyMessage.self, Command.self,
    ProcgateV1.ProcessSpec.self, ProcgateV1.Process.self, ProcgateV1.ProcessEvent.self,
    ProcgateV1.ExecRequest.self, ProcgateV1.AttachRequest.self,
    ProcgateV1.ListProcessesResponse.self,
    ProcgateInternal.Command.self, ProcgateInternal.Event.self,
    GRPCProtos.Status.self, GRPCProtos.ErrorInfo.self, GRPCProtos.HealthListResponse.self,
    GRPCReflection.ServerReflectionRequest.self,
    GRPCTesting.StreamingOutputCallRequest.self,
]
