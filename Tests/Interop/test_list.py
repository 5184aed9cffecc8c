"""ListProcesses: order, filters, pages."""

import itertools
import time

import pytest

from contract import (
    EXITED,
    FAILED,
    KILLED,
    QUEUED,
    RUNNING,
    TIMED_OUT,
    Code,
    listing,
    pb,
    refused,
    run,
    start,
    stop,
    wait,
)
from gateway import eventually, gateway

names = itertools.count()


@pytest.fixture
def label():
    """One that no other test uses."""
    return {"test": f"list-{next(names)}"}


def ids(processes):
    return [process.id for process in processes]


def test_the_newest_comes_first(stub, label):
    started = [run(stub, "true", labels=label).id for _ in range(5)]
    assert ids(listing(stub, labels=label).processes) == started[::-1]


def test_a_listed_process_is_the_one_that_get_process_shows(stub, label):
    id = run(stub, "echo x", labels=label).id
    process = listing(stub, labels=label).processes[0]
    assert process == stub.GetProcess(pb.GetProcessRequest(process_id=id)).process


def test_all_labels_must_match(stub, label):
    both = run(stub, "true", labels=label | {"a": "1", "b": "2"}).id
    one = run(stub, "true", labels=label | {"a": "1"}).id
    other = run(stub, "true", labels=label | {"a": "1", "b": "3"}).id
    find = lambda **more: ids(listing(stub, labels=label | more).processes)
    assert find() == [other, one, both]
    assert find(a="1") == [other, one, both]
    assert find(a="1", b="2") == [both]
    assert find(b="3") == [other]
    assert find(c="") == []


def test_no_labels_is_all():
    with gateway() as g:
        assert not listing(g.stub).processes
        started = [run(g.stub, "true", labels=labels).id for labels in ({}, {"a": "b"})]
        assert ids(listing(g.stub).processes) == started[::-1]


def test_any_of_the_statuses_matches():
    with gateway("--max-running", "1") as g:
        found = {
            EXITED: run(g.stub, "exit 1").id,
            KILLED: run(g.stub, "kill -9 $$").id,
            TIMED_OUT: run(g.stub, "sleep 1000", timeout_ms=100).id,
            FAILED: run(g.stub, "/no/such/command", "x").id,
            RUNNING: start(g.stub, "sleep 1000").id,
            QUEUED: start(g.stub, "true").id,
        }
        for status, id in found.items():
            assert ids(listing(g.stub, status=[status]).processes) == [id]
        some = listing(g.stub, status=[RUNNING, EXITED, EXITED]).processes
        assert ids(some) == [found[RUNNING], found[EXITED]]
        assert set(ids(listing(g.stub).processes)) == set(found.values())
        stop(g.stub, found[RUNNING], grace_ms=0)
        wait(g.stub, found[QUEUED])
        assert not listing(g.stub, status=[RUNNING, QUEUED]).processes


def test_times_of_creation_bound_the_list(stub, label):
    made = []
    for _ in range(3):
        made.append(run(stub, "true", labels=label).process)
        later = made[-1].created_at + 11  # the contract's clock counts milliseconds
        eventually(lambda: time.time() * 1000 > later, what="another time of creation")
    old, middle, new = made
    find = lambda **bounds: ids(listing(stub, labels=label, **bounds).processes)
    assert find(created_after=old.created_at + 5) == [new.id, middle.id]
    assert find(created_before=new.created_at - 5) == [middle.id, old.id]
    bounds = dict(created_after=old.created_at + 5, created_before=new.created_at - 5)
    assert find(**bounds) == [middle.id]
    assert find(created_after=new.created_at + 1000) == []
    assert find(created_before=old.created_at - 1000) == []


def test_the_default_limit_is_a_hundred(stub, label):
    started = [start(stub, "true", labels=label).id for _ in range(103)]
    first = listing(stub, labels=label)
    assert ids(first.processes) == started[:2:-1]
    assert first.next_cursor
    second = listing(stub, labels=label, cursor=first.next_cursor)
    assert ids(second.processes) == started[2::-1]
    assert second.next_cursor == ""


def test_pages_hold_every_process_once(stub, label):
    started = [run(stub, "true", labels=label).id for _ in range(7)]
    for limit in (1, 2, 3, 6, 7, 8, 1000):
        seen, cursor = [], ""
        while True:
            page = listing(stub, labels=label, limit=limit, cursor=cursor)
            assert len(page.processes) <= limit
            seen += ids(page.processes)
            cursor = page.next_cursor
            if not cursor:
                break
        assert seen == started[::-1], f"pages of {limit}"


def test_pages_do_not_shift_when_processes_are_added(stub, label):
    started = [run(stub, "true", labels=label).id for _ in range(4)]
    page = listing(stub, labels=label, limit=2)
    run(stub, "true", labels=label)
    rest = listing(stub, labels=label, limit=10, cursor=page.next_cursor)
    assert ids(page.processes) + ids(rest.processes) == started[::-1]


def test_a_cursor_survives_the_process_it_stands_at(stub, label):
    started = [run(stub, "true", labels=label).id for _ in range(5)]
    page = listing(stub, labels=label, limit=2)
    for process in page.processes:
        stub.DeleteProcess(pb.DeleteProcessRequest(process_id=process.id))
    rest = listing(stub, labels=label, cursor=page.next_cursor)
    assert ids(rest.processes) == started[2::-1]


def test_a_limit_beyond_a_thousand_is_refused(stub):
    for limit in (1001, 5000, 2**32 - 1):
        with refused(Code.INVALID_ARGUMENT, "LIMIT_INVALID"):
            listing(stub, limit=limit)
    assert listing(stub, limit=1000) is not None
    assert len(listing(stub, limit=1).processes) <= 1


def test_a_cursor_from_elsewhere_is_refused(stub):
    for cursor in ("garbage", "x" * 5000, "-1", "\0", "ü"):
        with refused(Code.INVALID_ARGUMENT, "CURSOR_INVALID"):
            listing(stub, cursor=cursor)
