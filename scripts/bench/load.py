"""wrk against one port: tokens minted, requests sent, CPU per request measured."""

import pathlib
import re
import subprocess
import tempfile
import time

import processes

_HERE = pathlib.Path(__file__).resolve().parent


class Wrk:
    """The load generator."""

    def __init__(self, program, lab):
        self.program, self.lab = program, pathlib.Path(lab)

    def mint(self, gateway, count):
        """`count` distinct tokens from the gateway's own token endpoint, in a file."""
        path = self.lab / f"{gateway.name}-{count}.tokens"
        command = [self.program, "-t1", "-c8", "-d600s", "--timeout", "30s", "-s", _HERE / "mint.lua",
                   f"http://127.0.0.1:{gateway.port}/", "--", path, str(count),
                   gateway.credentials()]
        path.unlink(missing_ok=True)
        child = processes.start(command, self.lab / "mint.log")
        while child.poll() is None and not path.exists():
            time.sleep(0.02)
        processes.stop(child)
        lines = path.read_text().split()
        if len(set(lines)) != count:
            raise SystemExit(f"{gateway.name} minted {len(set(lines))} of {count} tokens, see {child.log}")
        return path

    def begin(self, port, host, tokens, count, seconds, connections=64):
        """Starts a load in the background."""
        out = tempfile.NamedTemporaryFile(dir=self.lab, suffix=".wrk", delete=False)
        out.close()
        command = [self.program, "-t1", f"-c{connections}", f"-d{seconds}s", "--latency",
                   "--timeout", "10s", "-s", _HERE / "load.lua", f"http://127.0.0.1:{port}/", "--",
                   tokens, str(count), host]
        return processes.start(command, out.name)

    @staticmethod
    def end(child):
        """Waits for a load and gives its figures back."""
        child.wait()
        processes.stop(child)
        text = pathlib.Path(child.log).read_text()
        found = re.search(r"RESULT (.*)", text)
        if not found:
            raise SystemExit(f"wrk failed:\n{text}")
        figures = {name: int(value) for name, value in
                   (pair.split("=") for pair in found.group(1).split())}
        pathlib.Path(child.log).unlink()
        return figures

    def measure(self, target, tokens, count, seconds, connections=64, warm=0):
        """One run against a target: CPU per request, requests per second, latency, memory."""
        if warm:
            self.end(self.begin(target.port, target.host, tokens, count, warm, connections))
        before = processes.cpu_ns(target.pid)
        child = self.begin(target.port, target.host, tokens, count, seconds, connections)
        try:
            child.wait(seconds * 0.7)
        except subprocess.TimeoutExpired:
            pass
        rss = processes.rss_mb(target.pid)
        figures = self.end(child)
        cpu = processes.cpu_ns(target.pid) - before
        requests = max(figures["requests"], 1)
        return {
            "cpu_us": cpu / 1000 / requests,
            "rps": figures["requests"] / (figures["us"] / 1e6),
            "p50_us": figures["p50"],
            "p99_us": figures["p99"],
            "rss_mb": rss,
            "refused": figures["status"],
            "broken": figures["broken"],
        }


class Target:
    """Where a load goes, and whose CPU time counts."""

    def __init__(self, pid, port, host):
        self.pid, self.port, self.host = pid, port, host


def pause(seconds):
    time.sleep(seconds)
