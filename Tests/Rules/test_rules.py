"""The rules of the code that can be checked by reading it."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = ROOT / "Sources"

# Which of the project's own modules each module may import: what stands above it.
MAY_IMPORT = {
    "Protobuf": {"CProtobufC"},
    "ProcgateV1": {"Protobuf", "CProtos"},
    "ProcgateInternal": {"Protobuf", "CProtos", "ProcgateV1"},
    "GRPCProtos": {"Protobuf", "CProtos"},
    "GRPCTesting": {"Protobuf", "CGRPCTesting"},
    "LinuxIO": {"CLinux"},
    "OutputLog": {"CLinux"},
    "Supervision": {"CLinux", "LinuxIO", "OutputLog", "ProcgateV1", "Protobuf"},
    "SupervisorLink": {
        "CLinux", "LinuxIO", "OutputLog", "Supervision", "ProcgateV1", "ProcgateInternal", "Protobuf",
    },
    "HTTP2": {"CNGHTTP2"},
    "GRPCWire": {"HTTP2", "Protobuf", "CZlib"},
    "ProcgateServer": {
        "GRPCWire", "HTTP2", "SupervisorLink", "OutputLog", "ProcgateV1", "ProcgateInternal",
        "GRPCProtos", "Protobuf",
    },
    "ProcgateClient": {"GRPCWire", "ProcgateV1", "GRPCProtos", "Protobuf"},
    "procgate": {
        "ProcgateServer", "ProcgateClient", "SupervisorLink", "Supervision", "LinuxIO", "GRPCWire",
        "ProcgateV1",
        "Protobuf",
    },
}
OWN = set(MAY_IMPORT) | {"CLinux", "CProtos", "CGRPCTesting", "CNGHTTP2", "CProtobufC", "CZlib"}
# What `serve` and `supervise` link: no Foundation, which doubles the resident size.
IMPORT = re.compile(
    r"^\s*(?:@\w+\s+)*(?:public |package |internal |private |fileprivate )?import (?:\w+ )?(\w+)", re.M
)
LONGEST_FILE = 500


def swift_files(module):
    return sorted((SOURCES / module).rglob("*.swift"))


def is_generated(path):
    return "Generated" in path.parts or "CProtos" in path.parts or ".pb-c." in path.name


@pytest.mark.parametrize("module", sorted(MAY_IMPORT))
def test_a_module_imports_only_those_above_it(module):
    files = swift_files(module)
    assert files, f"{module} has no source"
    for path in files:
        imports = set(IMPORT.findall(path.read_text()))
        strangers = (imports & OWN) - MAY_IMPORT[module]
        assert not strangers, f"{path.relative_to(ROOT)} imports {sorted(strangers)}"


def test_nothing_links_all_of_foundation():
    for module in MAY_IMPORT:
        for path in swift_files(module):
            imports = set(IMPORT.findall(path.read_text()))
            assert not imports & {"Foundation", "FoundationNetworking"}, path.relative_to(ROOT)


def test_no_written_file_outgrows_its_room():
    long = {}
    for suffix in ("*.swift", "*.c", "*.h", "*.py"):
        for folder in ("Sources", "Tests", "Benchmarks", "Examples"):
            for path in (ROOT / folder).rglob(suffix):
                if ".build" in path.parts or is_generated(path):
                    continue
                count = len(path.read_text().splitlines())
                if count > LONGEST_FILE:
                    long[str(path.relative_to(ROOT))] = count
    assert not long


def test_every_rpc_of_the_contract_has_a_file_and_is_called_by_a_test():
    proto = (ROOT / "proto/procgate/v1/process.proto").read_text()
    rpcs = re.findall(r"^  rpc (\w+)\(", proto, re.M)
    assert len(rpcs) == 16
    calls = "".join(path.read_text() for path in (ROOT / "Tests/Interop").rglob("*.py"))
    for rpc in rpcs:
        assert (SOURCES / f"ProcgateServer/Methods/{rpc}.swift").exists(), rpc
        assert re.search(rf"\.{rpc}\(", calls), f"no test calls {rpc}"


def test_the_contract_is_named_in_its_reasons():
    """Every reason of the contract is a case of ErrorReason, and is expected by a test."""
    proto = (ROOT / "proto/procgate/v1/process.proto").read_text()
    service = proto[proto.index("service ProcessService") : proto.index("// What to run, and how")]
    comments = " ".join(re.findall(r"//(.*)", service))
    codes = {
        "INVALID_ARGUMENT", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "ALREADY_EXISTS", "NOT_FOUND",
        "OUT_OF_RANGE", "FAILED_PRECONDITION", "DEADLINE_EXCEEDED", "SIGNAL_SCOPE_TREE",
        # Of rights: known, never given yet.
        "NOT_PERMITTED", "QUOTA_EXCEEDED",
    }
    reasons = set(re.findall(r"\b[A-Z]+_[A-Z_]+\b", comments)) - codes
    swift = (SOURCES / "ProcgateV1/ErrorReason.swift").read_text()
    tests = "".join(path.read_text() for path in (ROOT / "Tests/Interop").rglob("*.py"))
    for reason in sorted(reasons):
        assert f'"{reason}"' in swift, f"{reason} is no ErrorReason"
        assert reason in tests, f"no test expects {reason}"


def test_no_global_or_constant_is_a_c_struct_with_padding():
    """Swift 6.3 lays those out too small (swiftlang/swift#90414): C writes behind them."""
    kind = r"(?:termios|sigaction|stat|siginfo_t|epoll_event|posix_spawnattr_t|rusage|sockaddr\w*)"
    made = re.compile(
        rf"^(?:(?:\S+ )*var|.*\bstatic var|.*\blet) \w+(?:: {kind}\b| = {kind}\()", re.M
    )
    assert made.search("nonisolated(unsafe) private var cooked = termios()")
    assert made.search("        let action = sigaction()")
    assert not made.search("        var action = sigaction()")
    for path in SOURCES.rglob("*.swift"):
        found = made.search(path.read_text())
        assert not found, f"{path.relative_to(ROOT)}: {found.group(0).strip()}"


def test_every_file_says_what_it_is():
    for module in MAY_IMPORT:
        for path in swift_files(module):
            if not is_generated(path):
                assert path.read_text().startswith("//"), path.relative_to(ROOT)
