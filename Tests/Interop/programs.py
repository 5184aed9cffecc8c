"""Commands that the tests run."""

from contract import get, start, wait, write
from gateway import eventually, standstill

# Four descendants, each in another way out of the command's process group, and their pids.
TREE = """
sleep 1000 & echo $!
setsid sleep 1000 & echo $!
(sleep 1000 & echo $!)
(setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $!)
while :; do sleep 1000; done
"""


def tree_pids(stdout):
    return {int(line) for line in stdout.split()}


# Random blocks to stdout; how far it came, and last the digest, into a file. PATH TOTAL
PRINTER = """
import hashlib, os, sys
path, total = sys.argv[1], int(sys.argv[2])
digest, done = hashlib.sha256(), 0
progress = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
while done < total:
    block = os.urandom(65536)
    view = memoryview(block)
    while view:
        view = view[os.write(1, view):]
    digest.update(block)
    done += len(block)
    os.pwrite(progress, b"%20d" % done, 0)
os.pwrite(progress, digest.hexdigest().encode(), 20)
"""


class PrinterProgress:
    def __init__(self, path):
        self.path = path

    def bytes(self):
        try:
            return int(self.path.read_bytes()[:20] or 0)
        except FileNotFoundError:
            return 0

    def stalls(self):
        """Bytes written when the process is held back."""
        return standstill(self.bytes)

    def digest(self):
        return self.path.read_bytes()[20:].decode()


def paced(stub, lines, then="exit 0"):
    """A process that has run each line, a chunk each, and has ended."""
    id = start(stub, f'while read -r line; do eval "$line"; done; {then}').id
    for count, line in enumerate(lines, 1):
        write(stub, id, line.encode() + b"\n")
        eventually(lambda count=count: get(stub, id).last_seq == count, what="its chunk")
    write(stub, id, eof=True)
    wait(stub, id)
    return id
