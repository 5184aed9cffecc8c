"""The gateway that the cheap tests share; a test that needs options of its own starts its own."""

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import pytest  # noqa: E402

import gateway as harness  # noqa: E402


def pytest_configure(config):
    if not os.access(harness.BINARY, os.X_OK):
        raise pytest.UsageError(f"no binary at {harness.BINARY}: build it, or set PROCGATE")
    harness.adopt_orphans()


@pytest.fixture(scope="session")
def shared():
    with harness.gateway() as running:
        yield running


@pytest.fixture
def stub(shared):
    return shared.stub
