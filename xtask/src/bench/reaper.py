"""Runs a command and counts CPU time of all that came of it, in whichever cgroup, orphans included.

usage: reaper.py RESULT COMMAND...   (it is the subreaper: what detaches becomes its child and is waited for)
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
# A wrapper that became this program may have had children.
before = resource.getrusage(resource.RUSAGE_CHILDREN)
began = time.monotonic()
first = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
wall, code = None, 1
while True:
    try:
        pid, status = os.wait()
    except ChildProcessError:
        break
    if pid == first:
        wall, code = time.monotonic() - began, os.waitstatus_to_exitcode(status)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
with open(sys.argv[1], "w") as result:
    json.dump({"wall": wall, "cpu": cpu, "own": time.process_time()}, result)
sys.exit(code if code >= 0 else 128 - code)
