# SPDX-License-Identifier: Apache-2.0
"""lightnet's additive recurrence beside its peers, in one process on one GPU, in bfloat16.

    python3 bench/torch/compare.py [--only REGEX] [gradients] [operators] [crossover]

--only chooses rows by "causal, d 128, fla chunk_lightnet": fla's kernels take minutes to tune. Needs PyTorch, Triton and flash-linear-attention (fla). Every figure is a median of Triton's do_bench, given as a share of
the limit: the least bytes (every input read once, every output written once; 11 tensors for forward and backward) at
the rate of a copy in the same run.
"""

import argparse
import re

import torch
import torch.nn.functional as F
from fla.ops.lightnet import chunk_lightnet
from fla.ops.simple_gla import chunk_simple_gla
from torch.nn.attention import SDPBackend, sdpa_kernel
from triton.testing import do_bench

from operators import additive
from reference import additive_in_double

SHAPES = {  # B, N, H, d
    "causal": {"d 128": (32, 2048, 16, 128), "d 64": (32, 2048, 32, 64), "one long sequence": (1, 65536, 16, 128)},
    "global": {"d 128": (32, 2048, 16, 128), "many short sequences": (256, 256, 16, 64)},
}


def milliseconds(call):
    return do_bench(call, warmup=20, rep=80, return_mode="median")


def random(shape, grad=False):
    return [torch.randn(shape, device="cuda", dtype=torch.bfloat16).requires_grad_(grad) for _ in range(3)]


def both(operator, inputs, d_o):
    return lambda: torch.autograd.grad(operator(*inputs), inputs, d_o)


# --- The peers, as functions of q, k and v [B, N, H, d]


def of_fla(q, k, v):
    return chunk_lightnet(q, k, v, scale=1.0)[0]


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
    return lambda q, k, v: additive(q, k, v, traversal)


PEERS = {
    "causal": {
        "lightnet": ours("causal"),
        "fla chunk_lightnet": of_fla,
        "fla chunk_simple_gla, constant decay": constant_decay,
        "cuDNN softmax attention": attention(True),
    },
    "global": {
        "lightnet": ours("global"),
        "torch.compile of softmax over tokens": torch.compile(softmax_over_tokens),
        "cuDNN softmax attention": attention(False),
    },
}


# --- What is measured


def gradients(_):
    """Ours and fla's, and both against double: norms of differences over the norm."""
    inputs = random((2, 300, 4, 128), True)
    d_o = torch.randn_like(inputs[2])
    wide = [x.detach().double().requires_grad_() for x in inputs]
    exact = torch.autograd.grad(additive_in_double(*wide), wide, d_o.double())
    made = [torch.autograd.grad(operator(*inputs), inputs, d_o) for operator in (ours("causal"), of_fla)]
    for i, name in enumerate("qkv"):
        far = [float((gradients[i].double() - exact[i]).norm() / exact[i].norm()) for gradients in made]
        apart = float((made[0][i].double() - made[1][i].double()).norm() / exact[i].norm())
        print(f"d{name}: lightnet {far[0]:.1e}, fla {far[1]:.1e} off, {apart:.1e} apart", flush=True)
        assert max(*far, apart) <= 1e-2, "a gradient is wrong, or they do not agree"


def copy_rate():
    """Bytes a millisecond, read and written."""
    x = torch.empty(1 << 30, device="cuda", dtype=torch.float32)
    y = torch.empty_like(x)
    return 2 * 4 * x.numel() / milliseconds(lambda: y.copy_(x))


def operators(only):
    rate = copy_rate()
    print(f"copy {rate / 1e9:.2f} TB/s")
    print("| traversal | shape | operator | forward | forward and backward |\n|---|---|---|---|---|")
    for traversal, peers in PEERS.items():
        for name, shape in SHAPES[traversal].items():
            inputs = random(shape, True)
            d_o = torch.randn_like(inputs[2])
            least = 2 * inputs[0].numel()
            for peer, operator in peers.items():
                if not re.search(only, f"{traversal}, {name}, {peer}"):
                    continue
                with torch.no_grad():
                    forward = milliseconds(lambda: operator(*inputs))
                whole = milliseconds(both(operator, inputs, d_o))
                shares = [100 * count * least / rate / time for count, time in ((4, forward), (11, whole))]
                print(f"| {traversal} | {name} | {peer} | {shares[0]:.1f} % | {shares[1]:.1f} % |", flush=True)


def crossover(_):
    """From which length on we are faster than cuDNN's softmax attention, at 65536 tokens in all."""
    print("| traversal | d | pass | faster from length | times as fast at 256, 1024, 4096, 16384 |\n|---|---|---|---|---|")
    lengths = [64 << n for n in range(9)]
    for traversal, peers in PEERS.items():
        for d in (64, 128):
            ratios = {"forward": [], "forward and backward": []}
            for length in lengths:
                inputs = random((65536 // length, length, 2048 // d, d), True)
                d_o = torch.randn_like(inputs[2])
                pair = [peers["cuDNN softmax attention"], peers["lightnet"]]
                with torch.no_grad():
                    times = [milliseconds(lambda: operator(*inputs)) for operator in pair]
                ratios["forward"].append(times[0] / times[1])
                times = [milliseconds(both(operator, inputs, d_o)) for operator in pair]
                ratios["forward and backward"].append(times[0] / times[1])
            for of, all_ in ratios.items():
                slower = [n for n, ratio in enumerate(all_) if ratio < 1]
                first = slower[-1] + 1 if slower else 0
                start = lengths[first] if first < len(lengths) else f"beyond {lengths[-1]}"
                some = ", ".join(f"{all_[lengths.index(n)]:.2f}" for n in (256, 1024, 4096, 16384))
                print(f"| {traversal} | {d} | {of} | {start} | {some} |", flush=True)


def main():
    sections = {"gradients": gradients, "operators": operators, "crossover": crossover}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("section", nargs="*", help="one or more of " + ", ".join(sections) + "; all without any")
    parser.add_argument("--only", default="", metavar="REGEX", help="which rows of the operators")
    arguments = parser.parse_args()
    for name in arguments.section:
        if name not in sections:
            parser.error(f"no section '{name}'; the sections are {', '.join(sections)}")
    torch.manual_seed(0)
    for name in arguments.section or sections:
        sections[name](arguments.only)


if __name__ == "__main__":
    main()
