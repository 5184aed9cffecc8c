"""Every reason that the contract names has a test here that asks for it."""

import re
from pathlib import Path

from contract import PROTO

HERE = Path(__file__).resolve()
# Reasons of rights, which this gateway does not have yet: it never gives them.
OF_RIGHTS = {"NOT_PERMITTED", "QUOTA_EXCEEDED"}


def test_every_reason_of_the_contract_has_a_test():
    text = (PROTO / "procgate/v1/process.proto").read_text()
    service = text[text.index("service ProcessService") : text.index("message ProcessSpec")]
    codes = {"INVALID_ARGUMENT", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "ALREADY_EXISTS"}
    codes |= {"NOT_FOUND", "OUT_OF_RANGE", "FAILED_PRECONDITION", "DEADLINE_EXCEEDED"}
    codes |= {"SIGNAL_SCOPE_TREE"}
    reasons = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", service)) - codes
    assert len(reasons) == 27
    reasons -= OF_RIGHTS
    tests = [path for path in HERE.parent.glob("test_*.py") if path != HERE]
    asked = set(re.findall(r'"([A-Z_]+)"', "".join(path.read_text() for path in tests)))
    assert reasons <= asked, f"no test asks for {reasons - asked}"
