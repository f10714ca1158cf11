"""Runs commands one after the other and counts each one's wall time, and the CPU time of all that came of all of them.

usage: sequence.py RESULT COMMANDS   (a JSON list of lists; it is the subreaper: what detaches becomes its child, is
reaped at once, and is waited for at the end)
"""

import ctypes
import json
import os
import resource
import sys
import time

PR_SET_CHILD_SUBREAPER = 36
if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
    sys.exit("cannot become a subreaper")
null = os.open("/dev/null", os.O_RDWR)
# A runtime hands its own streams to a container that it detaches: nobody waits for those.
streams = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1)]
before = resource.getrusage(resource.RUSAGE_CHILDREN)
walls, code = [], 0
for command in json.loads(sys.argv[2]):
    began = time.monotonic()
    first = os.posix_spawnp(command[0], command, os.environ, file_actions=streams)
    while True:
        pid, status = os.wait()
        if pid == first:
            break
    walls.append(time.monotonic() - began)
    code = os.waitstatus_to_exitcode(status)
    if code:
        print(f"{command}: exit code {code}", file=sys.stderr)
        break
while not code:
    try:
        os.wait()
    except ChildProcessError:
        break
used = resource.getrusage(resource.RUSAGE_CHILDREN)
cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
with open(sys.argv[1], "w") as result:
    json.dump({"walls": walls, "cpu": cpu}, result)
sys.exit(code if code >= 0 else 128 - code)
