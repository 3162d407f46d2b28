"""What a table of averages does not show: tokens, connections, a purge, rotations, the spread."""

import socket
import statistics
import time

import gateway
from gateway import BARE
from load import Target, pause

# The timings of conf/test-fast.yaml, but for the schedule: one Rotate a second is not refused.
FAST = """\
  rotation_interval: 24h
  idempotency_window: 800ms
  prepublish: 500ms
  jwks_max_age: 0s
  leeway: 0s
  clock_offset_max: 1s
  sign_drain: 1s500ms
  isolation_grace: 1s
  replica_lease: 200ms
  heartbeat: 50ms
  barrier_timeout: 300ms"""


def _median(rows, name):
    return statistics.median(row[name] for row in rows)


def tokens(bench, rounds, seconds, warm, counts, say):
    """CPU per request by the number of distinct tokens (ES256, 64 connections)."""
    target = bench.target("cached-es256")
    files = {count: bench.tokens("es256", count) for count in counts}
    rows = {count: [] for count in counts}
    for _ in range(rounds):
        for count in counts:
            rows[count].append(bench.wrk.measure(target, files[count], count, seconds, warm=warm))
    result = {str(count): {name: _median(rows[count], name) for name in
                           ("cpu_us", "rps", "p99_us", "rss_mb", "refused")} for count in counts}
    say("tokens: " + ", ".join(
        f"{count}: {row['cpu_us']:.1f} µs, {row['rss_mb']:.0f} MB" for count, row in result.items()))
    return result


def connections(bench, rounds, seconds, warm, say):
    """CPU per request and latency with 64 and 256 connections."""
    target, file = bench.target("cached"), bench.tokens("rs256")
    rows = {64: [], 256: []}
    for _ in range(rounds):
        for count in rows:
            rows[count].append(bench.wrk.measure(target, file, 10_000, seconds, count, warm))
    result = {str(count): {name: _median(rows[count], name) for name in
                           ("cpu_us", "rps", "p50_us", "p99_us", "rss_mb", "refused")}
              for count in rows}
    say("connections: " + ", ".join(
        f"{count}: {row['cpu_us']:.1f} µs, p99 {row['p99_us'] / 1000:.1f} ms"
        for count, row in result.items()))
    return result


def features(bench, rounds, seconds, warm, say):
    """p99 with everything on and without, at a rate that leaves the machine some air."""
    plain, all_on, file = "cached", "everything", bench.tokens("rs256")
    ratios = []
    for number in range(rounds):
        row = {}
        for case in [plain, all_on] if number % 2 == 0 else [all_on, plain]:
            row[case] = bench.wrk.measure(bench.target(case), file, 10_000, seconds, 8, warm)["p99_us"]
        ratios.append(row[all_on] / row[plain])
    result = {"p99_ratio": statistics.median(ratios), "of": sorted(ratios)}
    say(f"p99, access log and identity headers on : off, 8 connections: {result['p99_ratio']:.2f}")
    return result


def _sample(running):
    series = running.metrics()
    denied = {name.split('reason="')[1].split('"')[0]: value for name, value in series.items()
              if name.startswith("portcullis_auth_denied_total") and 'route="bare"' in name}
    allowed = sum(value for name, value in series.items()
                  if name.startswith("portcullis_auth_allowed_total") and 'route="bare"' in name)
    return {"at": time.monotonic(), "cpu": running.cpu_ns(), "allowed": allowed, "denied": denied}


def _cost(first, last):
    requests = (last["allowed"] + sum(last["denied"].values())
                - first["allowed"] - sum(first["denied"].values()))
    return (last["cpu"] - first["cpu"]) / 1000 / max(requests, 1)


def purge(bench, scale, say):
    """A purge of one key while half of the clients use its tokens, the others a newer one's."""
    running = gateway.Gateway("purge", bench.binary, bench.lab, bench.upstream, "ES256").start()
    half = 5_000
    old = bench.wrk.mint(running, half).rename(bench.lab / "purge-old.tokens")
    status, answer = running.rotate()
    assert status == 200, answer
    new = bench.wrk.mint(running, 2 * half)
    old_kid = gateway.kid(old.read_text().split()[0])
    lines = new.read_text().split()
    kept, renewed = bench.lab / "purge-kept.tokens", bench.lab / "purge-renewed.tokens"
    kept.write_text("\n".join(lines[:half]))
    renewed.write_text("\n".join(lines[half:]))
    target = Target(running.child.pid, running.port, BARE)

    def begin(file, seconds):
        return bench.wrk.begin(target.port, target.host, file, half, seconds, 32)
    lead, after = 6 * scale, 2
    bystanders = begin(kept, int(lead + after + 10))
    victims = begin(old, int(lead + after))
    pause(lead / 3)
    first = _sample(running)
    pause(lead * 2 / 3)
    before = _sample(running)
    started = time.monotonic()
    status, receipt = running.rotate(purge=True, kids=[old_kid])
    took = time.monotonic() - started
    assert status == 200, receipt
    victim = bench.wrk.end(victims)
    # The clients whose tokens were purged have fetched new ones.
    recovered = begin(renewed, 8)
    pause(max(0.0, started + after + 4 - time.monotonic()))
    settled = _sample(running)
    pause(3)
    last = _sample(running)
    bystander, recovery = bench.wrk.end(bystanders), bench.wrk.end(recovered)
    reasons = {name: int(value - first["denied"].get(name, 0))
               for name, value in last["denied"].items() if value > first["denied"].get(name, 0)}
    running.stop()
    result = {
        "answered_ms": took * 1000,
        "cpu_us_before": _cost(first, before), "cpu_us_after": _cost(settled, last),
        "refusals_by_reason": reasons,
        "refused_to_others": bystander["status"] + recovery["status"],
        "broken": bystander["broken"] + recovery["broken"] + victim["broken"],
    }
    result["ratio"] = result["cpu_us_after"] / result["cpu_us_before"]
    say(f"purge: answered after {result['answered_ms']:.0f} ms; refusals {reasons}, "
        f"{result['refused_to_others']} of other tokens; CPU/request {result['cpu_us_before']:.1f} → "
        f"{result['cpu_us_after']:.1f} µs from 6 s to 9 s after it")
    return result


def rotations(bench, rounds, seconds, say):
    """A rotation every second under load, against the same load without."""
    running = gateway.Gateway("rotate", bench.binary, bench.lab, bench.upstream, "ES256", ttl="50s",
                              keys=FAST).start()
    target = Target(running.child.pid, running.port, BARE)
    rps, cpu, refused, broken, turned = [], [], 0, 0, 0
    for number in range(rounds):
        file, row = bench.wrk.mint(running, 10_000), {}
        bench.wrk.measure(target, file, 10_000, 2)
        for turning in ([False, True] if number % 2 == 0 else [True, False]):
            before = running.cpu_ns()
            child = bench.wrk.begin(target.port, target.host, file, 10_000, seconds)
            for _ in range(seconds - 1):
                pause(1)
                if turning:
                    status, answer = running.rotate()
                    assert status == 200, answer
                    turned += answer["changed"]
            figures = bench.wrk.end(child)
            row[turning] = (figures["requests"] / figures["us"],
                            (running.cpu_ns() - before) / figures["requests"])
            refused += figures["status"]
            broken += figures["broken"]
        rps.append(row[True][0] / row[False][0])
        cpu.append(row[True][1] / row[False][1])
    running.stop()
    result = {"rotations": turned, "refused": refused, "broken": broken,
              "rps_ratio": statistics.median(rps), "cpu_ratio": statistics.median(cpu)}
    say(f"rotations: {turned}, {refused} refusals, {broken} broken; requests/s × "
        f"{result['rps_ratio']:.3f}, CPU/request × {result['cpu_ratio']:.3f}")
    return result


def spread(bench, trials, rounds, seconds, say):
    """How few connections fall on two workers, and what that costs."""
    running, flat = bench.gateway("tuned-rs256"), bench.gateway("unsharded-rs256")
    file = bench.tokens("rs256")
    result = {}
    for count in (4, 16, 64):
        busiest = []
        for _ in range(trials):
            sockets = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(count)]
            busiest.append(_busiest(running, count) / count)
            for one in sockets:
                one.close()
            _busiest(running, 0)
        ratios = []
        for _ in range(rounds):
            pair = [bench.wrk.measure(Target(one.child.pid, one.port, BARE), file, 10_000, seconds,
                                      count)["rps"] for one in (running, flat)]
            ratios.append(pair[0] / pair[1])
        result[str(count)] = {
            "busiest_median": statistics.median(busiest), "busiest_worst": max(busiest),
            "all_on_one": sum(share == 1.0 for share in busiest) / trials,
            "rps_ratio_median": statistics.median(ratios), "rps_ratio_worst": min(ratios)}
        row = result[str(count)]
        say(f"spread of {count} connections on 2 workers: the busier one has "
            f"{row['busiest_median']:.0%} (median), {row['busiest_worst']:.0%} (worst of {trials}), all of "
            f"them in {row['all_on_one']:.0%}; requests/s against one shared socket × "
            f"{row['rps_ratio_median']:.2f} (worst {row['rps_ratio_worst']:.2f})")
    return result


def _busiest(running, count):
    deadline = time.monotonic() + 10
    while True:
        open_now = [value for name, value in running.metrics().items()
                    if name.startswith("portcullis_worker_connections")]
        if sum(open_now) == count:
            return max(open_now)
        assert time.monotonic() < deadline, open_now
        pause(0.005)
