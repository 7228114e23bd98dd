# SPDX-License-Identifier: Apache-2.0
"""The shares of their limit that the rows of bench_cuda reach in several runs, as a table in Markdown.

    for n in 1 2 3; do bench_cuda --benchmark_out=gpu$n.json --benchmark_out_format=json; done
    python3 bench/gpu_table.py gpu1.json gpu2.json gpu3.json

A row is the median over the runs, its lowest and its highest. Rows with a call forward and one backward come with both together:
the bytes of both over the time of both. Needs Python's own library only.
"""

import json
import re
import statistics
import sys


def shares_of(path):
    """The share of the limit of every row of a run, by its name."""
    with open(path) as file:
        rows = [r for r in json.load(file)["benchmarks"] if r.get("run_type", "iteration") == "iteration" and r.get("bytes")]
    by_name = {re.sub(r"/iterations:\d+|/manual_time", "", r["name"]): r for r in rows}
    shares = {}
    for name, row in by_name.items():
        shares[name] = row["of_limit"]
        forward = by_name.get(name.replace("/backward/", "/forward/"))
        if "/backward/" in name and forward:
            rate = (row["copy_TBps"] + forward["copy_TBps"]) / 2 * 1e9  # bytes a millisecond
            least = (row["bytes"] + forward["bytes"]) / rate
            shares[name.replace("/backward/", "/forward + backward/")] = least / (row["milliseconds"] + forward["milliseconds"])
    return shares


def main(paths):
    if not paths:
        sys.exit(__doc__)
    runs = [shares_of(path) for path in paths]
    print(f"| row | of the limit, median of {len(runs)} | lowest, highest |\n|---|--:|--:|")
    for name in dict.fromkeys(name for run in runs for name in run):
        of_runs = sorted(100 * run[name] for run in runs if name in run)
        print(f"| {name} | {statistics.median(of_runs):.1f} % | {of_runs[0]:.1f}, {of_runs[-1]:.1f} |")


if __name__ == "__main__":
    main(sys.argv[1:])
