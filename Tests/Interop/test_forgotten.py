"""A deleted process stays forgotten on every connection, even if other calls read it meanwhile."""

import threading

from bystander import outcome
from contract import delete, get, run
from gateway import eventually, gateway

ROUNDS, READERS = 150, 4


def test_a_deleted_process_is_not_returned_again():
    with gateway() as g:
        stubs = [g.connect() for _ in range(READERS)]
        deleted, current, done = [], [None], threading.Event()
        outcomes = set()

        def find(stub, id):
            found = outcome(lambda: get(stub, id))
            return found if isinstance(found, str) else "found"

        def read(stub):
            while not done.is_set():
                if current[0]:
                    outcomes.add(find(stub, current[0]))

        readers = [threading.Thread(target=read, args=(stub,)) for stub in stubs]
        for reader in readers:
            reader.start()
        for _ in range(ROUNDS):
            current[0] = run(g.stub, "true", cwd="/").process.id
            get(g.stub, current[0])
            delete(g.stub, current[0])
            deleted.append(current[0])
        done.set()
        for reader in readers:
            reader.join(10)
            assert not reader.is_alive()
        assert outcomes == {"found", "PROCESS_NOT_FOUND"}

        def is_forgotten(id):
            return all(find(stub, id) == "PROCESS_NOT_FOUND" for stub in stubs)

        for id in deleted:
            eventually(lambda id=id: is_forgotten(id), 5, "the deleted process to be forgotten")
