"""Writes the generated code of all modules of plan.py.

Usage: python3 codegen-scripts/codegen OUT, from the root of the repository, where OUT is the
root to write under, best an empty folder. Asks protoc for the descriptors of all files, so that no proto file is ever
read as text.
"""

import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import coding  # noqa: E402
import layout  # noqa: E402
import messages  # noqa: E402
import names  # noqa: E402
import services  # noqa: E402
import stubs  # noqa: E402
from google.protobuf import descriptor_pb2  # noqa: E402
from model import Tree, Unsupported, walk  # noqa: E402
from plan import MODULES, PROTO_PATHS  # noqa: E402


def descriptor_set(scratch):
    path = os.path.join(scratch, "files.pb")
    protos = [proto for module in MODULES for proto in module.protos]
    subprocess.run(
        ["protoc", *(f"-I{each}" for each in PROTO_PATHS), "--include_imports",
         "--include_source_info", f"--descriptor_set_out={path}", *protos],
        check=True)
    with open(path, "rb") as stream:
        return descriptor_pb2.FileDescriptorSet.FromString(stream.read())


def imports(module, foreign, access="public"):
    return [f"{access} import {name}" for name in sorted(foreign - {module.name})]


def swift_file(path, import_lines, text):
    key = lambda line: line.split()[-1]  # noqa: E731
    head = [f"// {layout.GENERATED}", *sorted(set(import_lines), key=key), ""]
    layout.write(path, "\n".join(head) + "\n" + text.rstrip("\n") + "\n")


def write_module(module, tree, out):
    # As protoc sorted them: each after those that it imports.
    files = [file for file in tree.files.values() if file.module is module]
    for file in files:
        stem = names.c_identifier(file.proto.name[: -len(".proto")])
        base = f"{out}/{module.swift_dir}/{stem}"
        if file.messages or file.enums:
            text, foreign = messages.messages_file(file, tree)
            swift_file(
                f"{base}.messages.swift",
                ["public import Protobuf", *imports(module, foreign)], text)
        if file.messages:
            text, foreign = coding.coding_file(file, tree)
            swift_file(
                f"{base}.coding.swift",
                [f"package import {module.c_target}", "public import Protobuf",
                 *(line.removeprefix("internal ")
                   for line in imports(module, foreign | foreign_types(file, module),
                                       "internal"))],
                text)
        if file.services:
            text, foreign = services.services_file(file, tree)
            swift_file(
                f"{base}.services.swift",
                ["public import Protobuf", *imports(module, foreign)], text)
            if module.stubs_dir:
                text, foreign = stubs.stubs_file(file, tree)
                swift_file(
                    f"{out}/{module.stubs_dir}/{stem}.stubs.swift",
                    ["package import GRPCWire",
                     *(f"package import {name}" for name in foreign)], text)
    swift_file(
        f"{out}/{module.swift_dir}/FileDescriptors.swift",
        [f"import {module.c_target}", "public import Protobuf"], services.descriptors_file(files))
    with open(os.path.join(os.path.dirname(__file__), "Support.swift")) as stream:
        text = stream.read()
    swift_file(
        f"{out}/{module.swift_dir}/Support.swift", [f"import {module.c_target}", "import Protobuf"],
        text)
    spaces = sorted({(file.namespace.swift_name, file.proto.package)
                     for file in files if file.namespace})
    if spaces:
        text = "\n".join(
            f"/// The types of {package}.\npublic enum {name} {{}}\n" for name, package in spaces)
        swift_file(f"{out}/{module.swift_dir}/Namespaces.swift", [], text)


def foreign_types(file, module):
    """Modules of the messages that the file's messages hold: their conformance is needed."""
    return {target.module.name for message in walk(file.messages) for target in message.edges()
            if target.module is not module}


def main():
    out = sys.argv[1]
    with tempfile.TemporaryDirectory() as scratch:
        tree = Tree(descriptor_set(scratch), MODULES)
        c_targets = {module.c_target: module.c_dir for module in MODULES}
        for target, c_dir in c_targets.items():
            files = [file for file in tree.files.values() if file.module.c_target == target]
            layout.write_c_target(target, c_dir, files, tree.files.values(), scratch, out)
        for module in MODULES:
            write_module(module, tree, out)


try:
    main()
except (Unsupported, ValueError) as error:
    sys.exit(f"codegen: {error}")
except subprocess.CalledProcessError as error:
    sys.exit(error.returncode)
