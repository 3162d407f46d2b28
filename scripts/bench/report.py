"""Medians, ratios and the tables, printed and written into docs/performance.md."""

import os
import pathlib
import platform
import statistics

from cases import CASES, RATIOS

BEGIN, END = "<!-- bench-e2e: begin -->", "<!-- bench-e2e: end -->"


def _median(rounds, case, figure):
    return statistics.median(row[case][figure] for row in rounds)


def _ratio(rounds, case, other):
    values = sorted(row[case]["cpu_us"] / row[other]["cpu_us"] for row in rounds)
    return statistics.median(values), values[0], values[-1]


def _verdict(value, target, limit):
    if limit is None:
        return "–"
    return "met" if value <= target else "within the limit" if value <= limit else "**missed**"


def comparison(rounds):
    """The two tables of the comparison, as lines of Markdown."""
    if not rounds:
        return []
    lines = ["| case | CPU µs/request | requests/s | p50 ms | p99 ms | resident MB |",
             "|---|---|---|---|---|---|"]
    for case, title in CASES.items():
        if case in rounds[0]:
            cpu, rps, p50, p99, rss = (_median(rounds, case, figure) for figure in
                                       ("cpu_us", "rps", "p50_us", "p99_us", "rss_mb"))
            lines.append(f"| {title} | {cpu:.1f} | {rps:,.0f} | {p50 / 1000:.2f} | {p99 / 1000:.2f} | "
                         f"{rss:.0f} |")
    lines += ["", "| CPU per request | median | rounds | target | not above | |",
              "|---|---|---|---|---|---|"]
    for case, other, title, target, limit in RATIOS:
        if case in rounds[0] and other in rounds[0]:
            value, low, high = _ratio(rounds, case, other)
            bounds = f"{target} | {limit}" if limit else "– | –"
            lines.append(f"| {title} | {value:.2f} | {low:.2f}–{high:.2f} | {bounds} | "
                         f"{_verdict(value, target, limit)} |")
    if "cached" in rounds[0]:
        rss = _median(rounds, "cached", "rss_mb")
        lines.append(f"| resident memory with 10k tokens, 64 connections, MB | {rss:.0f} | – | 40 | 64 | "
                     f"{_verdict(rss, 40, 64)} |")
    refused = {case: sum(row[case]["refused"] + row[case]["broken"] for row in rounds)
               for case in rounds[0]}
    wrong = {case: count for case, count in refused.items() if count}
    lines += ["", f"Refused or broken requests: {wrong or 'none'}."]
    return lines


def trials(results):
    """The figures of the trials, as lines of Markdown."""
    lines = []
    if found := results.get("tokens"):
        lines += ["", "| distinct tokens (ES256) | CPU µs/request | requests/s | p99 ms | resident MB |",
                  "|---|---|---|---|---|"]
        lines += [f"| {int(count):,} | {row['cpu_us']:.1f} | {row['rps']:,.0f} | {row['p99_us'] / 1000:.2f} | "
                  f"{row['rss_mb']:.0f} |" for count, row in found.items()]
    if found := results.get("connections"):
        lines += ["", "| connections | CPU µs/request | requests/s | p50 ms | p99 ms | resident MB |",
                  "|---|---|---|---|---|---|"]
        lines += [f"| {count} | {row['cpu_us']:.1f} | {row['rps']:,.0f} | {row['p50_us'] / 1000:.2f} | "
                  f"{row['p99_us'] / 1000:.2f} | {row['rss_mb']:.0f} |" for count, row in found.items()]
    if found := results.get("spread"):
        lines += ["", "| connections on 2 workers | the busier worker has (median) | worst trial | all on one "
                  "worker | requests/s : one shared socket (median) | worst |", "|---|---|---|---|---|---|"]
        lines += [f"| {count} | {row['busiest_median']:.0%} | {row['busiest_worst']:.0%} | "
                  f"{row['all_on_one']:.0%} | {row['rps_ratio_median']:.2f} | {row['rps_ratio_worst']:.2f} |"
                  for count, row in found.items()]
    if found := results.get("features"):
        lines += ["", f"- p99 with access log, metrics and identity headers : without log and identity headers (8 connections): "
                  f"{found['p99_ratio']:.2f}; target 1.1, not above 1.3."]
    if found := results.get("purge"):
        lines += ["", f"- A purge of one key under load answered after {found['answered_ms']:.0f} ms. Refusals by "
                  f"reason: {found['refusals_by_reason']}; of tokens of other keys: "
                  f"{found['refused_to_others']}; broken requests: {found['broken']}. CPU per request 6 s to 9 s "
                  f"after it : before it: {found['ratio']:.2f}."]
    if found := results.get("rotations"):
        lines += ["", f"- {found['rotations']} rotations, one a second: {found['refused']} refusals, "
                  f"{found['broken']} broken requests; requests/s : without: {found['rps_ratio']:.3f}, CPU per "
                  f"request : without: {found['cpu_ratio']:.3f}."]
    return lines


def machine(binary, rounds, seconds):
    """What was measured where, in one sentence."""
    model = "unknown"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return (f"Measured with `{binary.parent.name}/{binary.name}` on {os.cpu_count()} cores ({model}), "
            f"Linux {platform.release()}, load average {os.getloadavg()[0]:.1f} at the end; {rounds} rounds of "
            f"{seconds} s, 64 connections.")


def write(path, lines):
    """Replaces what stands between the markers."""
    text = path.read_text()
    head, rest = text.split(BEGIN, 1)
    _, tail = rest.split(END, 1)
    path.write_text("\n".join([head + BEGIN, *lines, END + tail]))
