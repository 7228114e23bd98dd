# SPDX-License-Identifier: Apache-2.0
"""lightnet's operators beside their peers, in one process on one GPU, in bfloat16.

    python3 bench/torch/compare.py [--only REGEX] [SECTION...]

| section | what it does |
|---|---|
| tune | compiles, on all cores, what fla's kernels are tuned with; what runs after finds it in Triton's cache |
| operators | shares of the limit: rows of the additive recurrence, then of the family |
| crossover | from which length on we are faster than cuDNN's softmax attention, at 65536 tokens in all |
| gradients | how far outputs and gradients of ours and fla's are from double, and apart |

All of them, in this order, without any. --only chooses rows by their words, "causal, d 128, fla chunk_lightnet". Needs
PyTorch, Triton and flash-linear-attention (fla), whose kernels take minutes to tune. A share is that of the limit: the least
bytes (every input read once, every output written once) at the rate of a copy in the same run; times are medians of Triton's
do_bench.
"""

import argparse
import os
import re
import subprocess
import sys

import configurations

# The children of tune take a share each, "first/step".
_first, _step = (int(x) for x in os.environ.get("LIGHTNET_TUNE_SHARE", "0/1").split("/"))
configurations.keep(slice(_first, None, _step))

import fla  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
import triton  # noqa: E402
from fla.ops.simple_gla import chunk_simple_gla  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from triton.testing import do_bench  # noqa: E402

from family import MEMBERS, distance, exact, inputs_of, with_gradients, with_gradients_if_any  # noqa: E402

SHAPES = {  # B, N, H, d
    "causal": {"d 128": (32, 2048, 16, 128), "d 64": (32, 2048, 32, 64), "one long sequence": (1, 65536, 16, 128)},
    "global": {"d 128": (32, 2048, 16, 128), "many short sequences": (256, 256, 16, 64)},
}
FAMILY_SHAPES = {"HGRN": {"one head of 2048": (1, 65536, 1, 2048)}}  # of the others, the first of SHAPES


def milliseconds(call):
    return do_bench(call, warmup=20, rep=80, return_mode="median")


# --- The peers of the additive recurrence, as functions of q, k and v [B, N, H, d]


def constant_decay(q, k, v):
    rates = -torch.exp(-torch.linspace(1, 5, q.shape[2], device=q.device))
    return chunk_simple_gla(q, k, v, scale=1.0, g_gamma=rates)[0]


def softmax_over_tokens(q, k, v):
    weights = torch.softmax(k.float(), 1).to(q.dtype)
    return torch.einsum("bthd,bhde->bthe", q, torch.einsum("bthd,bthe->bhde", weights, v))


def attention(causal):
    def run(q, k, v):
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            return F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), is_causal=causal).transpose(1, 2)

    return run


def ours(traversal):
    return lambda q, k, v: MEMBERS["additive"].ours(q, k, v, traversal)


PEERS = {
    "causal": {
        "lightnet": ours("causal"),
        "fla chunk_lightnet": MEMBERS["additive"].fla["chunk_lightnet"],
        "fla chunk_simple_gla, constant decay": constant_decay,
        "cuDNN softmax attention": attention(True),
    },
    "global": {
        "lightnet": ours("global"),
        "torch.compile of softmax over tokens": torch.compile(softmax_over_tokens, dynamic=False),
        "cuDNN softmax attention": attention(False),
    },
}


def peers_of(member):
    """Ours and fla's, by name."""
    return {"lightnet": member.ours, **{f"fla {name}": operator for name, operator in member.fla.items()}}


def rows(only):
    """What is compared, of the rows that a pattern chooses: title, shape, member of the family, operators by name."""
    every = [(kind, name, shape, "additive", PEERS[kind]) for kind in PEERS for name, shape in SHAPES[kind].items()]
    for of, member in MEMBERS.items():
        if of != "additive":
            shapes = FAMILY_SHAPES.get(of, {"d 128": SHAPES["causal"]["d 128"]})
            every += [(of, name, shape, of, peers_of(member)) for name, shape in shapes.items()]
    for kind, name, shape, of, peers in every:
        chosen = {peer: call for peer, call in peers.items() if re.search(only, f"{kind}, {name}, {peer}")}
        if chosen:
            yield f"{kind} | {name}", shape, MEMBERS[of], chosen


# --- What is measured


def tune(only):
    count = os.cpu_count()
    command = [sys.executable, __file__, "--only", only, "compile"]
    shares = [{**os.environ, "LIGHTNET_TUNE_SHARE": f"{i}/{count}"} for i in range(count)]
    children = [subprocess.Popen(command, env=share) for share in shares]
    if any([child.wait() != 0 for child in children]):
        raise RuntimeError("not all configurations of fla's kernels compile")


def compile_(only):
    """Calls what of the rows is fla's, two sequences at most."""
    for _, shape, member, peers in rows(only):
        for name, operator in peers.items():
            if name.startswith("fla"):
                inputs = inputs_of(member, (min(shape[0], 2), *shape[1:]), torch.bfloat16)
                with_gradients_if_any(operator, inputs, torch.ones_like(operator(**inputs)))


def gradients(only):
    """Norms of differences over the norm of what is right."""
    print("| operator | of | lightnet off | fla off | apart |\n|---|---|---|---|---|")
    for name, member in MEMBERS.items():
        if not re.search(only, name):
            continue
        shape = (1, 256, 16, 128)  # what fla's kernels are tuned by is as in rows()
        inputs = inputs_of(member, shape, torch.bfloat16)
        d_o = torch.randn(shape, device="cuda", dtype=torch.bfloat16)
        right = exact(member.in_double, inputs, d_o)
        made = with_gradients(member.ours, inputs, d_o)
        for peer, operator in member.fla.items():
            theirs = with_gradients_if_any(operator, inputs, d_o)
            assert name != "additive" or len(theirs) > 1, "fla gave no gradients"
            for of in theirs:
                far = [distance(x[of], y[of], right[of]) for x, y in ((made, right), (theirs, right), (made, theirs))]
                print(f"| {name}, fla {peer} | {of} | {far[0]:.1e} | {far[1]:.1e} | {far[2]:.1e} |", flush=True)
                assert far[0] <= 1e-2 and far[2] <= 2e-2, "a gradient is wrong, or they do not agree"


def copy_rate():
    """Bytes a millisecond, read and written."""
    x = torch.empty(1 << 30, device="cuda", dtype=torch.float32)
    y = torch.empty_like(x)
    return 2 * 4 * x.numel() / milliseconds(lambda: y.copy_(x))


def operators(only):
    rate = copy_rate()
    print(f"copy {rate / 1e9:.2f} TB/s, fla {fla.__version__}, PyTorch {torch.__version__}, Triton {triton.__version__}")
    print("| | shape | operator | forward | forward and backward |\n|---|---|---|---|---|")
    for title, shape, member, peers in rows(only):
        inputs = inputs_of(member, shape, torch.bfloat16)
        d_o = torch.randn(shape, device="cuda", dtype=torch.bfloat16)
        read, written = (sum(x.numel() * x.element_size() for x in all_) for all_ in (inputs.values(), [d_o]))
        # Backward reads the inputs again and d_o, and writes their gradients.
        least = read + written, 3 * read + 2 * written
        for peer, operator in peers.items():
            with torch.no_grad():
                times = [milliseconds(lambda: operator(**inputs))]
            if len(with_gradients_if_any(operator, inputs, d_o)) > 1:
                times.append(milliseconds(lambda: with_gradients(operator, inputs, d_o)))
            shares = [f"{100 * bytes_ / rate / time:.1f} %" for bytes_, time in zip(least, times)]
            print(f"| {title} | {peer} | {shares[0]} | {shares[1] if len(shares) > 1 else 'refused'} |", flush=True)


def crossover(only):
    print("| traversal | d | pass | faster from length | times as fast at 256, 1024, 4096, 16384 |\n|---|---|---|---|---|")
    lengths = [64 << n for n in range(9)]
    for traversal, peers in PEERS.items():
        for d in (64, 128):
            if not re.search(only, f"{traversal}, d {d}"):
                continue
            ratios = {"forward": [], "forward and backward": []}
            for length in lengths:
                shape = (65536 // length, length, 2048 // d, d)
                inputs = inputs_of(MEMBERS["additive"], shape, torch.bfloat16)
                d_o = torch.randn(shape, device="cuda", dtype=torch.bfloat16)
                pair = [peers["cuDNN softmax attention"], peers["lightnet"]]
                with torch.no_grad():
                    times = [milliseconds(lambda: operator(**inputs)) for operator in pair]
                ratios["forward"].append(times[0] / times[1])
                times = [milliseconds(lambda: with_gradients(operator, inputs, d_o)) for operator in pair]
                ratios["forward and backward"].append(times[0] / times[1])
            for of, all_ in ratios.items():
                slower = [n for n, ratio in enumerate(all_) if ratio < 1]
                first = slower[-1] + 1 if slower else 0
                start = lengths[first] if first < len(lengths) else f"beyond {lengths[-1]}"
                some = ", ".join(f"{all_[lengths.index(n)]:.2f}" for n in (256, 1024, 4096, 16384))
                print(f"| {traversal} | {d} | {of} | {start} | {some} |", flush=True)


def main():
    sections = {"tune": tune, "operators": operators, "crossover": crossover, "gradients": gradients}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("section", nargs="*", help="one or more of " + ", ".join(sections) + "; all without any")
    parser.add_argument("--only", default="", metavar="REGEX", help="which rows")
    arguments = parser.parse_args()
    known = {**sections, "compile": compile_}  # the last is what tune calls
    for name in arguments.section:
        if name not in known:
            parser.error(f"no section '{name}'; the sections are {', '.join(sections)}")
    torch.manual_seed(0)
    for name in arguments.section or sections:
        known[name](arguments.only)


if __name__ == "__main__":
    main()
