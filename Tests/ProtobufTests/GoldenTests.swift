// The codecs against what protoc makes of the same messages.

import GRPCProtos
import ProcgateV1
import Protobuf
import Testing

@Suite struct GoldenTests {
    @Test func everyScalarHasProtocsBytes() throws {
        try expect(Golden.scalars) { (message: inout Scalars) in
            message.doubleValue = -1.5
            message.floatValue = 0.25
            message.int32Value = .min
            message.int64Value = .min
            message.uint32Value = .max
            message.uint64Value = .max
            message.sint32Value = .min
            message.sint64Value = .min
            message.fixed32Value = .max
            message.fixed64Value = .max
            message.sfixed32Value = -2
            message.sfixed64Value = -3
            message.boolValue = true
            message.stringValue = "a\0b ü 🐚"
            message.bytesValue = [0, 0xff, 0x80]
            message.colour = .below
            message.far = "far"
        }
    }

    @Test func repeatedFieldsHaveProtocsBytes() throws {
        let message = try expect(Golden.repeated) { (message: inout Repeated) in
            message.doubles = [0, -0.0, 1e300]
            message.floats = [1, -0.5]
            message.int32s = [0, -1, .max]
            message.int64s = [-1, 1]
            message.uint32s = [0, 300]
            message.uint64s = [.max]
            message.sint32s = [-1, 1, .min]
            message.sint64s = [-1, .max]
            message.fixed32s = [1, 2]
            message.fixed64s = [3]
            message.sfixed32s = [-1]
            message.sfixed64s = [-1, 0]
            message.bools = [true, false, true]
            message.strings = ["", "one", "two"]
            message.byteStrings = [[], [1]]
            message.colours = [.red, .below, .unspecified]
            message.inners = [
                Nested.Inner(),
                .with {
                    $0.innermost = .with { $0.text = "x" }
                    $0.kind = .second
                },
            ]
        }
        #expect(message.doubles[1].sign == .minus)
    }

    @Test func unpackedFieldsHaveProtocsBytes() throws {
        try expect(Golden.unpacked) { (message: inout Unpacked) in
            message.doubles = [1, 2]
            message.int32s = [-1, 0]
            message.sint64s = [-5, 5]
            message.bools = [true, false]
            message.colours = [.darkGreen]
        }
    }

    @Test func mapsOfEveryKeyHaveProtocsBytes() throws {
        try expect(Golden.maps) { (message: inout Maps) in
            message.byInt32 = [-1: "minus one"]
            message.byInt64 = [.min: [0]]
            message.byUint32 = [.max: true]
            message.byUint64 = [.max: 0.5]
            message.bySint32 = [-7: 2.5]
            message.bySint64 = [-8: -9]
            message.byFixed32 = [1: 2]
            message.byFixed64 = [3: .darkGreen]
            message.bySfixed32 = [-1: -2]
            message.bySfixed64 = [-3: 4]
            message.byBool = [true: .with { $0.kind = .second }]
            message.byString = ["k": .with { $0.byInt32 = [1: "inner"] }]
        }
    }

    @Test func oneofsHaveProtocsBytes() throws {
        try expect(Golden.choice) { (message: inout Choice) in
            let inner = Choice.with { $0.event = .message(.with { $0.text = "deep" }) }
            message.event = .choice(.with { $0.event = .choice(inner) })
            message.other = .only("")
        }
    }

    @Test func aOneofKeepsADefaultValue() throws {
        try expect(Golden.choiceDefault) { (message: inout Choice) in message.event = .number(0) }
    }

    @Test func recursiveMessagesHaveProtocsBytes() throws {
        try expect(Golden.tree) { (message: inout Tree) in
            message.left = .with { $0.label = "l" }
            message.right = .with { $0.left = Tree() }
            message.children = [.with { $0.label = "c0" }, .with { $0.label = "c1" }]
            message.byName = ["n": .with { $0.label = "named" }]
            message.branch = .with { $0.tree = .with { $0.label = "b" } }
            message.label = "root"
        }
    }

    @Test func fieldsWithSpecialNamesHaveProtocsBytes() throws {
        try expect(Golden.keywords) { (message: inout Keywords) in
            message.class = "class"
            message.default = "default"
            message.selfValue = "self"
            message.initValue = "init"
            message.func = "func"
            message.in = "in"
            message.base = "base"
            message.type = "Type"
            message.register = ["r0", "r1"]
            message.switch = ["on": "off"]
            message.fields = "fields"
            message.arena = "arena"
            message.fullName = "full_name"
            message.layout = "layout"
            message.encodedValue = [UInt8]("encoded".utf8)
            message.item = ["item"]
            message.nItem = "n_item"
            message.url = "URL"
            message.alreadyMixed = "mixed"
            message.case = .nil("nil")
        }
    }

    @Test func anExecRequestHasProtocsBytes() throws {
        try expect(Golden.execRequest) { (message: inout ExecRequest) in
            message.process = .with {
                $0.command = "node"
                $0.args = ["-e", "console.log(1)"]
                $0.cwd = "/srv"
                $0.env = ["NODE_ENV": "test"]
                $0.timeoutMs = 60_000
                $0.terminal = .with {
                    $0.columns = 80
                    $0.rows = 24
                }
                $0.limits = .with {
                    $0.memoryBytes = 256 << 20
                    $0.cpuMillis = 1500
                }
                $0.shell = .none
                $0.clearEnv = true
                $0.output = .with {
                    $0.retainBytes = 1 << 20
                    $0.holdWhenFull = true
                }
            }
            message.stdinData = [UInt8]("hello\n".utf8)
            message.requestKey = "key-1"
            message.afterSeq = 7
            message.onDisconnect = .keep
        }
    }

    @Test func anExitedEventHasProtocsBytes() throws {
        try expect(Golden.processEvent) { (message: inout ProcessEvent) in
            let process = Process.with {
                $0.id = "p-1"
                $0.status = .killed
                $0.command = "sleep"
                $0.args = ["9"]
                $0.labels = ["job": "42"]
                $0.pid = 4711
                $0.outcome = .signal(9)
                $0.createdAt = 1_700_000_000_000
                $0.startedAt = 1_700_000_000_001
                $0.endedAt = 1_700_000_001_001
                $0.terminationReason = .timeout
                $0.signalName = "SIGKILL"
                $0.usage = .with {
                    $0.cpuTimeMs = 12
                    $0.peakMemoryBytes = 1 << 20
                }
                $0.limitsEnforced = .cgroup
            }
            message.event = .exited(
                .with {
                    $0.process = process
                    $0.outputTruncated = true
                    $0.lastSeq = 3
                })
        }
    }

    @Test func aStatusWithDetailsHasProtocsBytes() throws {
        let info = GRPCProtos.ErrorInfo.with {
            $0.reason = "PROCESS_NOT_FOUND"
            $0.domain = "procgate"
            $0.metadata = ["id": "x"]
        }
        try expect(Golden.status) { (message: inout GRPCProtos.Status) in
            message.code = 5
            message.message = "no such process"
            message.details = [
                .with {
                    $0.typeUrl = "type.googleapis.com/\(GRPCProtos.ErrorInfo.fullName)"
                    $0.value = info.encoded()
                }
            ]
        }
    }

    @Test func healthAndReflectionHaveProtocsBytes() throws {
        try expect(Golden.health) { (message: inout GRPCProtos.HealthListResponse) in
            message.statuses = ["procgate.v1.ProcessService": .with { $0.status = .serving }]
        }
        try expect(Golden.reflection) { (message: inout GRPCReflection.ServerReflectionResponse) in
            message.validHost = "h"
            message.originalRequest = .with {
                $0.host = "h"
                $0.messageRequest = .fileContainingExtension(
                    .with {
                        $0.containingType = "t"
                        $0.extensionNumber = 3
                    })
            }
            message.messageResponse = .errorResponse(
                .with {
                    $0.errorCode = 5
                    $0.errorMessage = "none"
                })
        }
    }

    @discardableResult private func expect<Message: ProtobufMessage>(
        _ golden: [UInt8], _ fill: (inout Message) -> Void
    ) throws -> Message {
        let message = Message.with(fill)
        #expect(message.encoded() == golden)
        let decoded = try Message(decoding: golden)
        #expect(decoded == message)
        return decoded
    }
}
