"""The gateway that the cheap tests share; a test that needs options of its own starts its own."""

import os
import signal

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import pytest  # noqa: E402
from _pytest.runner import runtestprotocol  # noqa: E402

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


# How often a test is tried that loses a race which its proxy makes.
ATTEMPTS = 6


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    """A test that has lost a race of its proxy's is run again. One that loses it every time, as on a
    slow machine, is told apart from one that has failed."""
    name = proxy_of(item)
    if name not in proxies.LOST_RACES:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for attempt in range(1, ATTEMPTS + 1):
        item._initrequest()  # its fixtures are made anew
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        lost = [r for r in reports if r.failed and proxies.lost_race(name, r.longreprtext)]
        if not lost:
            break
        if attempt == ATTEMPTS:
            for report in lost:
                reason = f"{name}, {ATTEMPTS} times: {proxies.LOST_RACES[name][1]}"
                report.outcome, report.wasxfail = "skipped", reason
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    report = (yield).get_result()
    if not report.failed:
        return
    for g in harness.running:
        report.sections.append((f"Log of {' '.join(g.targets)}", g.log()[-4000:]))


@pytest.fixture(scope="session")
def shared():
    with harness.gateway() as running:
        yield running


@pytest.fixture
def stub(shared):
    return shared.stub
