"""The command line in a fleet: names of nodes, cordons, and listings of every node."""

import json

from gateway import eventually, gateway, procgate


def command(g, *words, **options):
    environment = {"PROCGATE_ADDRESS": g.address, "PROCGATE_TOKEN": g.token}
    return procgate(*words, environment=environment | options.pop("environment", {}), **options)


def test_a_cordon_is_set_shown_and_taken_back():
    with gateway("--node", "n1") as g:
        assert command(g, "cordon").returncode == 0
        refused = command(g, "exec", "--", "true")
        assert refused.returncode == 1
        assert b"cordon" in refused.stderr and refused.stderr.count(b"\n") == 1
        assert json.loads(command(g, "info", "--json").stdout)["cordoned"] is True
        assert command(g, "uncordon", "--node", "n1").returncode == 0
        assert command(g, "exec", "--", "exit 4").returncode == 4


def test_another_node_than_the_one_named_refuses():
    with gateway("--node", "n1") as g:
        done = command(g, "exec", "--node", "n2", "--", "true")
        assert done.returncode == 1
        assert b"n2" in done.stderr and b"n1" in done.stderr
        assert command(g, "exec", "--node", "n1", "--", "true").returncode == 0
        assert command(g, "ps", "--node", "").returncode == 64


def test_ids_are_cut_and_found_behind_the_node():
    with gateway("--node", "eu-1") as g:
        id = command(g, "start", "--", "sleep 60").stdout.decode().strip()
        assert id.startswith("eu-1-")
        table = command(g, "ps").stdout.decode()
        assert id[: len("eu-1-") + 12] + " " in table and id not in table
        assert id in command(g, "ps", "--no-trunc").stdout.decode()
        assert command(g, "show", id[: len("eu-1-") + 4]).returncode == 0
        assert command(g, "stop", id, "--grace", "0s").returncode == 0


def test_every_node_is_asked_and_one_that_does_not_answer_is_named():
    with gateway("--node", "n1") as g:
        id = command(g, "start", "--", "sleep 60").stdout.decode().strip()
        done = command(g, "ps", "-q", "--all-nodes", "--nodes", "n1")
        assert (done.returncode, done.stdout.decode().split()) == (0, [id])
        # A single gateway is every node that answers; the other name belongs to none.
        for more in (dict(), dict(environment={"PROCGATE_NODES": "n1,n2"})):
            words = [] if more else ["--nodes", "n1,n2"]
            done = command(g, "ps", "-q", "--all-nodes", *words, **more)
            assert done.returncode == 69
            assert done.stdout.decode().split() == [id]
            assert b"n2" in done.stderr and b"node n1 " not in done.stderr
        assert command(g, "ps", "--all-nodes").returncode == 64
        assert command(g, "stop", id, "--grace", "0s").returncode == 0
        eventually(lambda: b"killed" in command(g, "ps").stdout)
