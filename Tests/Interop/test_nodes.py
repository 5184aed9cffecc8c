"""The names of nodes, calls that are for another one, and cordons."""

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from contract import Code, Stub, error_info, exec_request, info, pb, refused, run, start, stop
from gateway import eventually, gateway, procgate

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def with_metadata(g, **fields):
    more = tuple((f"procgate-{name}", value) for name, value in fields.items())
    return Stub(g.channel(), g.metadata + more)


def pushback(error):
    return dict(error.trailing_metadata()).get("grpc-retry-pushback-ms")


def test_process_ids_begin_with_the_name_of_the_node():
    with gateway("--node", "eu-1.example") as g:
        process = start(g.stub, "sleep 60", cwd="/")
        node, _, rest = process.id.rpartition("-")
        assert node == "eu-1.example" and len(rest) >= 20
        assert info(g.stub).node == "eu-1.example"
        assert g.stub.GetProcess(pb.GetProcessRequest(process_id=process.id)).process.pid
        stop(g.stub, process.id, grace_ms=0)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a b", "x" * 64, "ä"])
def test_a_name_that_no_node_may_have_is_wrong_usage(name):
    done = procgate("serve", "--node", name)
    assert done.returncode == 64
    assert b"--node" in done.stderr


def test_calls_for_another_node_are_refused_with_this_ones_name():
    with gateway("--node", "n1") as g:
        instance = info(g.stub).instance_id
        process = start(g.stub, "sleep 60", cwd="/")
        unknown = pb.GetProcessRequest(process_id="n2-abcdefgh")
        calls = [
            lambda: g.stub.GetProcess(unknown),
            lambda: g.stub.Wait(pb.WaitRequest(process_id="n2-abcdefgh")),
            lambda: next(g.stub.StreamOutput(pb.StreamOutputRequest(process_id="n2-abcdefgh"))),
            lambda: next(
                g.stub.Attach(
                    iter([pb.AttachRequest(join=pb.StreamOutputRequest(process_id="n2-x"))])
                )
            ),
            lambda: with_metadata(g, node="n2").GetProcess(
                pb.GetProcessRequest(process_id=process.id)
            ),
            lambda: with_metadata(g, node="n2").GetGateway(pb.GetGatewayRequest()),
            lambda: next(with_metadata(g, instance="other").Exec(exec_request("true"))),
        ]
        for call in calls:
            with refused(Code.FAILED_PRECONDITION, "WRONG_NODE") as caught:
                call()
            told = error_info(caught[0]).metadata
            assert (told["node"], told["instance"]) == ("n1", instance)
            assert pushback(caught[0]) is None
        # An id of this node that is gone is gone.
        with refused(Code.NOT_FOUND, "PROCESS_NOT_FOUND"):
            g.stub.GetProcess(pb.GetProcessRequest(process_id="n1-abcdefgh"))
        stub = with_metadata(g, node="n1", instance=instance)
        assert stub.GetProcess(pb.GetProcessRequest(process_id=process.id)).process.id == process.id
        stop(g.stub, process.id, grace_ms=0)


def test_a_gateway_without_a_name_says_that_a_process_is_unknown(shared):
    with refused(Code.NOT_FOUND, "PROCESS_NOT_FOUND"):
        shared.stub.GetProcess(pb.GetProcessRequest(process_id="n2-abcdefgh"))


def test_ids_are_known_after_a_change_of_the_nodes_name():
    with gateway("--node", "old") as g:
        process = start(g.stub, "sleep 60", cwd="/")
        g.kill()
        g.options = ["--node", "new"]
        g.restart()
        assert g.stub.GetProcess(pb.GetProcessRequest(process_id=process.id)).process.pid
        assert "--node" in g.log()
        stop(g.stub, process.id, grace_ms=0)


def cordon(g, on):
    g.stub.SetCordon(pb.SetCordonRequest(cordoned=on))


def placement(g, service="procgate.new"):
    stub = health_pb2_grpc.HealthStub(g.channel())
    return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10).status


def test_a_cordoned_gateway_starts_nothing_and_does_everything_else():
    with gateway() as g:
        process = start(g.stub, "read line; echo got:$line", cwd="/", key="known")
        cordon(g, True)
        assert info(g.stub).cordoned
        eventually(lambda: placement(g) == NOT_SERVING)
        assert placement(g, "") == placement(g, "procgate.v1.ProcessService") == SERVING
        for call in (
            lambda: next(g.stub.Exec(exec_request("true"))),
            lambda: start(g.stub, "true", cwd="/"),
        ):
            with refused(Code.UNAVAILABLE, "CORDONED") as caught:
                call()
            assert int(pushback(caught[0])) >= 0
        # A repeat of a known key joins.
        again = start(g.stub, "read line; echo got:$line", cwd="/", key="known")
        assert again.id == process.id
        g.stub.WriteStdin(pb.WriteStdinRequest(process_id=process.id, data=b"x\n", eof=True))
        result = g.stub.Wait(pb.WaitRequest(process_id=process.id)).result
        assert result.stdout_data == b"got:x\n"
        cordon(g, False)
        assert not info(g.stub).cordoned
        assert run(g.stub, "true", cwd="/").process.exit_code == 0
        eventually(lambda: placement(g) == SERVING)


def test_a_cordon_outlives_gateway_and_supervisor():
    with gateway() as g:
        cordon(g, True)
        supervisor = g.supervisor
        g.kill()
        g.restart()
        assert info(g.stub).cordoned
        instance = info(g.stub).instance_id
        g.stop()
        g.start()
        assert info(g.stub).instance_id != instance and g.supervisor != supervisor
        with refused(Code.UNAVAILABLE, "CORDONED"):
            start(g.stub, "true", cwd="/")
        cordon(g, False)
        g.stop()
        g.start()
        assert not info(g.stub).cordoned


def test_a_full_gateway_is_no_place_for_new_processes():
    with gateway("--max-running", "1", "--max-queued", "0") as g:
        watch = health_pb2_grpc.HealthStub(g.channel()).Watch(
            health_pb2.HealthCheckRequest(service="procgate.new"), timeout=30
        )
        assert next(watch).status == SERVING
        process = start(g.stub, "sleep 60", cwd="/")
        assert next(watch).status == NOT_SERVING
        assert placement(g, "") == SERVING
        with refused(Code.RESOURCE_EXHAUSTED, "TOO_MANY_PROCESSES") as caught:
            start(g.stub, "true", cwd="/")
        assert int(pushback(caught[0])) >= 0
        stop(g.stub, process.id, grace_ms=0)
        assert next(watch).status == SERVING
        watch.cancel()


def test_other_refusals_ask_for_no_repeat(shared):
    for call in (
        lambda: next(shared.stub.Exec(exec_request(""))),
        lambda: next(shared.stub.Exec(exec_request("true", cwd="/no/such"))),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert pushback(caught.value) is None
