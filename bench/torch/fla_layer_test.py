# SPDX-License-Identifier: Apache-2.0
"""fla's LightNetAttention with our operator in place of its own: outputs and gradients, in float32 and bfloat16.

    python3 bench/torch/fla_layer_test.py

What is right is the same layer whose operator sums in double. Prints how far both are from that (the norm of the
difference over the norm), and fails where ours is further than the type allows, or than twice fla's.
"""

import torch

import configurations

configurations.keep(slice(1))  # compared, not timed: one of each will do, and takes a minute less to compile

import fla.layers.lightnet  # noqa: E402
from fla.ops.lightnet import chunk_lightnet as of_fla  # noqa: E402

from operators import chunk_lightnet as ours  # noqa: E402
from reference import additive_in_double  # noqa: E402


def in_double(q, k, v, scale=None, **_):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    o = additive_in_double(scale * q.double(), k, v)
    return o.to(q.dtype), (None, None)


def run(layer, operator, x, d_y):
    fla.layers.lightnet.chunk_lightnet = operator
    inputs = {"x": x, **dict(layer.named_parameters())}
    y = layer(x)[0]
    return {"y": y.detach(), **dict(zip(inputs, torch.autograd.grad(y, list(inputs.values()), d_y)))}


def main():
    assert fla.layers.lightnet.chunk_lightnet is of_fla, "this fla calls its operator by another name"
    torch.manual_seed(0)
    failures = 0
    for type_, allowed in ((torch.float32, 2e-5), (torch.bfloat16, 2e-2)):
        for heads, expand in ((2, 128), (4, 64)):
            layer = fla.layers.lightnet.LightNetAttention(hidden_size=256, num_heads=heads, expand_ratio=expand)
            layer = layer.to("cuda", type_)
            x = torch.randn(2, 200, 256, device="cuda", dtype=type_, requires_grad=True)
            d_y = torch.randn_like(x)
            right, got, theirs = (run(layer, operator, x, d_y) for operator in (in_double, ours, of_fla))
            for name, expected in right.items():
                far, fla_far = (float((of[name] - expected).norm() / expected.norm()) for of in (got, theirs))
                good = far <= allowed and far <= 2 * max(fla_far, allowed / 100)
                failures += not good
                print(f"{'ok  ' if good else 'FAIL'} {type_} {heads} heads, {name}: {far:.1e} (fla: {fla_far:.1e})")
    return failures > 0


if __name__ == "__main__":
    raise SystemExit(main())
