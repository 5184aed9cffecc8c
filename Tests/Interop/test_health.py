"""grpc.health.v1.Health."""

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from contract import Code, begin, collect, has_lines, refused, until
from gateway import eventually, gateway, kill

pytestmark = pytest.mark.issue3
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
OURS = "procgate.v1.ProcessService"


def request(service=""):
    return health_pb2.HealthCheckRequest(service=service)


@pytest.fixture
def health(shared):
    """Without a token."""
    return health_pb2_grpc.HealthStub(shared.channel())


@pytest.mark.parametrize("service", ["", OURS])
def test_the_gateway_is_serving_and_no_token_is_asked(health, service):
    assert health.Check(request(service), timeout=10).status == SERVING


def test_an_unknown_service_is_not_found(health):
    with refused(Code.NOT_FOUND):
        health.Check(request("no.such.Service"), timeout=10)


def test_a_watch_of_an_unknown_service_says_so_and_stays(health):
    events = health.Watch(request("no.such.Service"), timeout=10)
    assert next(events).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    events.cancel()


def test_list_names_the_services(health):
    if not hasattr(health, "List"):
        pytest.skip("this grpcio-health-checking has no List")
    statuses = health.List(health_pb2.HealthListRequest(), timeout=10).statuses
    assert {"", OURS} <= set(statuses)
    assert all(each.status == SERVING for each in statuses.values())


@pytest.mark.parametrize("service", ["", OURS])
def test_not_serving_while_draining(service, tmp_path):
    with gateway() as g:
        health = health_pb2_grpc.HealthStub(g.channel())
        watch = health.Watch(request(service), timeout=20)
        assert next(watch).status == SERVING
        call = begin(g.stub, f"echo x; until [ -e {tmp_path}/go ]; do sleep 0.02; done")
        until(call, has_lines(1))
        g.terminate()
        assert next(watch).status == NOT_SERVING
        (tmp_path / "go").touch()
        collect(call)
        watch.cancel()
        assert g.wait() == 0


@pytest.mark.parametrize("service", ["", OURS])
def test_not_serving_while_there_is_no_supervisor(service):
    with gateway() as g:
        health = health_pb2_grpc.HealthStub(g.channel())
        watch = health.Watch(request(service), timeout=30)
        assert next(watch).status == SERVING
        for _ in range(2):
            kill(g.supervisor)
            assert next(watch).status == NOT_SERVING
            assert next(watch).status == SERVING
            assert health.Check(request(service), timeout=10).status == SERVING
        watch.cancel()


def test_a_watch_does_not_keep_the_gateway_from_ending():
    with gateway() as g:
        watch = health_pb2_grpc.HealthStub(g.channel()).Watch(request(), timeout=40)
        assert next(watch).status == SERVING
        g.terminate()
        eventually(lambda: g.process.poll() is not None, what="the gateway's end")
        assert g.process.returncode == 0
