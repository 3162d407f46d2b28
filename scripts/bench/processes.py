"""Children of a benchmark: started, measured and ended by their ids, whatever happens."""

import atexit
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time

_children = []


def start(command, log, cwd=None, env=None):
    """Starts a child that dies with us; its output goes to the file `log`."""
    with open(log, "ab") as out:
        child = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            cwd=cwd, env=env, preexec_fn=_die_with_parent)
    child.log = str(log)
    _children.append(child)
    return child


def _die_with_parent():
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def stop(child, patience=10.0):
    """Ends a child and all that it started."""
    pids = tree(child.pid)
    if child.poll() is None:
        child.terminate()
    try:
        child.wait(patience)
    except subprocess.TimeoutExpired:
        pass
    for pid in pids:
        # A worker that outlived its master; ids are not used again within seconds.
        if pid != child.pid or child.poll() is None:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    child.wait()
    if child in _children:
        _children.remove(child)


@atexit.register
def _stop_all():
    for child in list(_children):
        stop(child, 3.0)


def end_in_order_on_signals():
    """Turns SIGTERM and SIGHUP into an exit that ends the children."""
    def leave(number, _frame):
        sys.exit(128 + number)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)


def tree(pid):
    """`pid` and its descendants."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as stat:
                    fields = stat.read().rsplit(")", 1)[1].split()
                parents.setdefault(int(fields[1]), []).append(int(name))
            except (FileNotFoundError, ProcessLookupError):
                pass
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        todo.extend(parents.get(one, []))
    return found


def cpu_ns(pid):
    """Run time of the process tree so far, in nanoseconds, as the scheduler counted it."""
    total = 0
    for one in tree(pid):
        try:
            for task in os.listdir(f"/proc/{one}/task"):
                with open(f"/proc/{one}/task/{task}/schedstat") as stat:
                    total += int(stat.read().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            pass
    return total


def rss_mb(pid):
    """Resident memory of the process tree in MB (10⁶ bytes); pages shared by forks count twice."""
    total = 0
    for one in tree(pid):
        try:
            with open(f"/proc/{one}/status") as status:
                for line in status:
                    if line.startswith("VmRSS:"):
                        total += int(line.split()[1]) * 1024
        except (FileNotFoundError, ProcessLookupError):
            pass
    return total / 1e6


_next_port = 20000 + os.getpid() * 13 % 10000


def free_port():
    """A loopback port below the range of outgoing connections that nobody listens on."""
    global _next_port
    while True:
        _next_port = 20000 + (_next_port - 20000 + 1) % 12000
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", _next_port))
                return _next_port
            except OSError:
                pass


def wait_for_port(port, child, patience=30.0):
    """Waits until somebody listens; fails with the child's output when it ends before."""
    deadline = time.monotonic() + patience
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        except OSError:
            if child.poll() is not None or time.monotonic() > deadline:
                with open(child.log, errors="replace") as log:
                    raise SystemExit(f"{child.args[0]} did not open port {port}:\n{log.read()[-4000:]}")
            time.sleep(0.02)
