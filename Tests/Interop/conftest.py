"""The gateway that the cheap tests share; a test that needs options of its own starts its own."""

import os
import signal

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import pytest  # noqa: E402

import gateway as harness  # noqa: E402
import proxies  # noqa: E402


def pytest_addoption(parser):
    default = os.environ.get("PROCGATE_PROXY") or None
    told = "all cleartext channels of grpcio go through this proxy (default: $PROCGATE_PROXY)"
    parser.addoption("--proxy", choices=proxies.NAMES, default=default, help=told)


def pytest_configure(config):
    harness.through = config.getoption("proxy")
    if harness.through not in (None, *proxies.NAMES):
        raise pytest.UsageError(f"PROCGATE_PROXY is one of {', '.join(proxies.NAMES)}")
    if not os.access(harness.BINARY, os.X_OK):
        raise pytest.UsageError(f"no binary at {harness.BINARY}: build it, or set PROCGATE")
    harness.adopt_orphans()
    # Background jobs of shells are started with SIGINT ignored, and so would be the commands here.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def proxy_of(item):
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return parameters.get("proxy_name") or item.config.getoption("proxy")


def pytest_collection_modifyitems(items):
    for item in items:
        if mark := proxies.expected_failure(proxy_of(item), item.originalname):
            item.add_marker(mark)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    report = (yield).get_result()
    if not report.failed:
        return
    if excuse := proxies.excuse(proxy_of(item), report.longreprtext):
        report.outcome, report.wasxfail = "skipped", excuse
    for g in harness.running:
        report.sections.append((f"Log of {' '.join(g.targets)}", g.log()[-4000:]))


@pytest.fixture(scope="session")
def shared():
    with harness.gateway() as running:
        yield running


@pytest.fixture
def stub(shared):
    return shared.stub
