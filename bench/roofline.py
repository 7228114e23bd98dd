# SPDX-License-Identifier: Apache-2.0
"""The rows of bench_cuda under their roofline, as an SVG picture.

    bench_cuda --benchmark_out=gpu.json --benchmark_out_format=json
    python3 bench/roofline.py gpu.json gpu_roofline.svg [REGEX of the rows]

Across: operations for each byte of the least traffic; up: operations a second, both as logarithms. The roof is the lower of two:
the median of the copies that ran beside the rows, and the best rate of the row matrix_product. Needs Python's own library only.
"""

import html
import json
import math
import re
import statistics
import sys

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM, NAME = 1100, 640, 80, 430, 50, 60, 14
COLOURS = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17a2b8", "#8c564b", "#7f7f7f"]
MATRIX, OTHER_LIMITS = "matrix_product", "multiply_adds"


def rows_of(path, pattern):
    with open(path) as file:
        all_rows = json.load(file)["benchmarks"]
    rows = [r for r in all_rows if r.get("run_type", "iteration") == "iteration" and "work" in r]
    for row in rows:
        row["label"] = re.sub(r"/iterations:\d+|/manual_time", "", row["name"])
        row["intensity"] = row["work"] / row["bytes"]
        row["rate"] = row["work"] / (row["milliseconds"] / 1000)
    matrix = [r for r in rows if r["label"].startswith(MATRIX)]
    if not matrix:
        sys.exit(f"{path}: no row {MATRIX}, which says what the matrix units can do")
    shown = [r for r in rows if not r["label"].startswith((MATRIX, OTHER_LIMITS)) and re.search(pattern, r["label"])]
    return shown, max(r["rate"] for r in matrix)


class axis:
    """A logarithmic axis over whole powers of ten."""

    def __init__(self, values, first, last):
        self.low, self.high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        self.first, self.last = first, last

    def place(self, value):
        return self.first + (math.log10(value) - self.low) / (self.high - self.low) * (self.last - self.first)

    def powers(self):
        return [10.0**n for n in range(self.low, self.high + 1)]


def text(x, y, words, anchor="start", size=12, extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" {extra}>{html.escape(words)}</text>'


def line(x1, y1, x2, y2, style):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {style}/>'


def picture(rows, matrix_rate):
    copy_rate = statistics.median(r["copy_TBps"] for r in rows) * 1e12
    ridge = matrix_rate / copy_rate
    across = axis([r["intensity"] for r in rows] + [2 * ridge], LEFT, WIDTH - RIGHT)
    up = axis([r["rate"] for r in rows] + [matrix_rate], HEIGHT - BOTTOM, TOP)
    whole = max(HEIGHT, TOP + NAME * len(rows))  # the names beside the picture may be longer than it
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {whole}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{whole}" fill="white"/>',
        text(LEFT, 28, f"copies {copy_rate / 1e12:.2f} TB/s, products of bfloat16 {matrix_rate / 1e12:.0f} TFLOP/s", size=15),
    ]
    grid = 'stroke="#dddddd"'
    for x in across.powers():
        out += [line(across.place(x), TOP, across.place(x), HEIGHT - BOTTOM, grid),
                text(across.place(x), HEIGHT - BOTTOM + 18, f"{x:g}", "middle")]
    for y in up.powers():
        out += [line(LEFT, up.place(y), WIDTH - RIGHT, up.place(y), grid),
                text(LEFT - 8, up.place(y) + 4, f"{y / 1e12:g}", "end")]
    out += [text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 15, "floating-point operations for a byte of the least traffic", "middle"),
            text(20, HEIGHT / 2, "TFLOP/s", "middle", extra=f'transform="rotate(-90 20 {HEIGHT / 2})"')]
    roof, start = 'stroke="black" stroke-width="2"', max(10.0**across.low, 10.0**up.low / copy_rate)
    out += [line(across.place(start), up.place(start * copy_rate), across.place(ridge), up.place(matrix_rate), roof),
            line(across.place(ridge), up.place(matrix_rate), WIDTH - RIGHT, up.place(matrix_rate), roof)]
    for n, row in enumerate(rows):
        colour, x, y, below = COLOURS[n % len(COLOURS)], across.place(row["intensity"]), up.place(row["rate"]), TOP + NAME * n
        share = row["rate"] / min(matrix_rate, row["intensity"] * row["copy_TBps"] * 1e12)
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="{colour}" fill-opacity="0.85"/>',
                text(x, y + 3, str(n + 1), "middle", 8, 'fill="white"'),
                text(WIDTH - RIGHT + 15, below + 4, f'{n + 1}  {100 * share:.0f} %  {row["label"]}', size=9,
                     extra=f'fill="{colour}"')]
    return "\n".join(out + ["</svg>\n"])


def main(arguments):
    if len(arguments) not in (2, 3):
        sys.exit(__doc__)
    rows, matrix_rate = rows_of(arguments[0], arguments[2] if len(arguments) == 3 else ".")
    if not rows:
        sys.exit("no row has such a name")
    with open(arguments[1], "w") as file:
        file.write(picture(rows, matrix_rate))


if __name__ == "__main__":
    main(sys.argv[1:])
