"""WatchProcesses."""

import itertools

import pytest

from contract import (
    EXITED,
    KILLED,
    QUEUED,
    RUNNING,
    Code,
    delete,
    pb,
    refused,
    run,
    start,
    stop,
    wait,
    write,
)
from gateway import gateway

pytestmark = pytest.mark.issue3
names = itertools.count()


@pytest.fixture
def label():
    return {"test": f"watch-{next(names)}"}


class Watch:
    def __init__(self, stub, timeout=40, **labels):
        self.events = stub.WatchProcesses(pb.WatchProcessesRequest(labels=labels), timeout=timeout)
        self.seen = []

    def next(self):
        for response in self.events:
            kind = response.WhichOneof("event")
            if kind == "process":
                self.seen.append((response.process.id, response.process.status))
                return self.seen[-1]
            if kind == "deleted_id":
                self.seen.append((response.deleted_id, "deleted"))
                return self.seen[-1]
        raise AssertionError(f"the watch ended: {self.seen}")

    def until(self, *event):
        while self.next() != event:
            pass
        return self.seen


def test_the_processes_that_match_come_as_they_stand(stub, label):
    running = start(stub, "read x", labels=label).id
    ended = run(stub, "true", labels=label).id
    watch = Watch(stub, **label)
    assert {watch.next(), watch.next()} == {(running, RUNNING), (ended, EXITED)}
    write(stub, running, b"\n")
    assert watch.next() == (running, EXITED)


def test_each_change_of_status_comes(stub, label):
    watch = Watch(stub, **label)
    one = start(stub, "read x", labels=label).id
    watch.until(one, RUNNING)
    two = start(stub, "sleep 1000", labels=label).id
    watch.until(two, RUNNING)
    write(stub, one, b"\n")
    watch.until(one, EXITED)
    stop(stub, two, grace_ms=0)
    watch.until(two, KILLED)


def test_a_forgotten_process_is_told(stub, label):
    id = run(stub, "true", labels=label).id
    watch = Watch(stub, **label)
    assert watch.next() == (id, EXITED)
    delete(stub, id)
    assert watch.next() == (id, "deleted")


def test_processes_that_are_forgotten_by_time_are_told():
    with gateway("--retain-time", "1s") as g:
        watch = Watch(g.stub)
        id = run(g.stub, "true").id
        watch.until(id, EXITED)
        watch.until(id, "deleted")


def test_a_process_goes_through_the_queue():
    with gateway("--max-running", "1") as g:
        first = start(g.stub, "sleep 1000").id
        watch = Watch(g.stub)
        assert watch.next() == (first, RUNNING)
        second = start(g.stub, "true").id
        assert watch.next() == (second, QUEUED)
        stop(g.stub, first, grace_ms=0)
        watch.until(second, EXITED)
        mine = [status for id, status in watch.seen if id == second]
        assert mine in ([QUEUED, RUNNING, EXITED], [QUEUED, EXITED])
        assert (first, KILLED) in watch.seen


def test_others_do_not_come(stub, label):
    watch = Watch(stub, **label, mine="yes")
    run(stub, "true", labels=label)
    run(stub, "true", labels={"mine": "yes"})
    id = run(stub, "true", labels=label | {"mine": "yes", "more": "too"}).id
    watch.until(id, EXITED)
    assert {seen for seen, _ in watch.seen} == {id}


def test_without_labels_all_come():
    with gateway() as g:
        watch = Watch(g.stub)
        id = run(g.stub, "true").id
        watch.until(id, EXITED)


def test_no_change_is_lost_between_the_first_list_and_the_following(stub, label):
    ids = [start(stub, "sleep 0.1", labels=label).id for _ in range(30)]
    watches = [Watch(stub, **label) for _ in range(5)]
    for id in ids:
        wait(stub, id)
    for watch in watches:
        last = {}
        while set(last) != set(ids) or set(last.values()) != {EXITED}:
            id, status = watch.next()
            last[id] = status


def test_keep_alives_come_while_nothing_changes():
    with gateway("--keep-alive", "1s") as g:
        events = g.stub.WatchProcesses(pb.WatchProcessesRequest())
        assert next(events).WhichOneof("event") == "keep_alive"
        assert next(events).WhichOneof("event") == "keep_alive"
        events.cancel()


def test_a_watch_that_does_not_read_delays_nobody(shared, label):
    idle = shared.connect().WatchProcesses(pb.WatchProcessesRequest(labels=label))
    ids = [start(shared.stub, "true", labels=label).id for _ in range(200)]
    for id in ids:
        assert wait(shared.stub, id).process.exit_code == 0
    last = {}
    for response in idle:
        last[response.process.id] = response.process.status
        if set(last) == set(ids) and set(last.values()) == {EXITED}:
            break
    idle.cancel()


def test_a_watch_is_cut_off_by_its_deadline(stub, label):
    with refused(Code.DEADLINE_EXCEEDED):
        list(stub.WatchProcesses(pb.WatchProcessesRequest(labels=label), timeout=0.3))
