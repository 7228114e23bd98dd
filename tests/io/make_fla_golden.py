# SPDX-License-Identifier: Apache-2.0
"""Makes fla_lightnet.safetensors: a small LightNet of flash-linear-attention, its tokens and its logits.

    python3 tests/io/make_fla_golden.py --modules fla OUT     fla's own model: needs torch, triton, fla, transformers, and
                                                              a GPU, or TRITON_INTERPRET=1 in the environment
    python3 tests/io/make_fla_golden.py --modules plain OUT   its formulas in PyTorch, in double; needs no more than torch
    python3 tests/io/make_fla_golden.py --compare FILE        the logits of a file against the formulas, and fla where it is

The weights are under fla's names, as save_pretrained gives them, the tokens under "input_ids", the logits under "logits",
and fla's configuration is in the metadata. (The interpreter of triton 3.6 wants numpy 2.2 or older.)
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import struct
import sys

import torch
import torch.nn.functional as F

# Widths that no tile likes. Up to 64 tokens fla's layer takes its recurrent kernel, which sums in float; the one in chunks
# multiplies in TF32.
CONFIGURATION = {
    "model_type": "lightnet",
    "hidden_size": 30,
    "num_hidden_layers": 3,
    "num_heads": 2,
    "expand_ratio": None,
    "hidden_act": "swish",
    "intermediate_size": 44,
    "gate_low_rank_dim": 7,
    "norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "vocab_size": 53,
}
BATCH, TOKENS = 4, 45
TOLERANCE = 1e-4  # the formulas in float32 are 1.4e-5 from those in double


def shapes():
    """Names and shapes of fla's LightNetForCausalLM (fla/models/lightnet, fla/layers/lightnet.py of 0.6.0)."""
    c = CONFIGURATION
    width, inner, rank, vocabulary = c["hidden_size"], c["intermediate_size"], c["gate_low_rank_dim"], c["vocab_size"]
    yield "model.embeddings.weight", (vocabulary, width)
    for i in range(c["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        yield layer + "attn_norm.weight", (width,)
        for name in "qkv":
            yield f"{layer}attn.{name}_proj.weight", (width, width)
        yield layer + "attn.g_proj.0.weight", (rank, width)
        yield layer + "attn.g_proj.1.weight", (width, rank)
        yield layer + "attn.g_norm.weight", (width,)
        yield layer + "attn.o_proj.weight", (width, width)
        yield layer + "mlp_norm.weight", (width,)
        yield layer + "mlp.gate_proj.weight", (inner, width)
        yield layer + "mlp.up_proj.weight", (inner, width)
        yield layer + "mlp.down_proj.weight", (width, inner)
    yield "model.norm.weight", (width,)
    yield "lm_head.weight", (vocabulary, width)


def make_weights():
    """Numbers with which every part matters. Tokens and the values of the first layer are small, so that a wrong epsilon of
    the norms shows: the squares that it is added to are some 1e-4."""
    torch.manual_seed(20)
    weights = {}
    for name, shape in shapes():
        if name.endswith("norm.weight"):
            weights[name] = 1 + 0.3 * torch.randn(shape)
        elif name == "model.embeddings.weight":
            weights[name] = 0.02 * torch.randn(shape)
        else:
            weights[name] = (1 / shape[1]) ** 0.5 * torch.randn(shape)
    weights["model.layers.0.attn.v_proj.weight"] *= 0.01
    return weights


def make_tokens():
    return torch.randint(0, CONFIGURATION["vocab_size"], (BATCH, TOKENS), generator=torch.Generator().manual_seed(7))


# --- The formulas, in double


def rms_norm(x, weight, eps):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def attention(x, w, heads, eps):
    batch, tokens, width = x.shape
    split = (batch, tokens, heads, width // heads)
    q = F.silu(x @ w["q_proj.weight"].T).view(split) * (width // heads) ** -0.5
    weights = torch.exp((x @ w["k_proj.weight"].T).view(split))
    v = (x @ w["v_proj.weight"].T).view(split)
    states = torch.cumsum(weights.unsqueeze(4) * v.unsqueeze(3), 1) / torch.cumsum(weights, 1).unsqueeze(4)
    o = torch.einsum("bthd,bthde->bthe", q, states).reshape(batch, tokens, width)
    gate = x @ w["g_proj.0.weight"].T @ w["g_proj.1.weight"].T
    return (rms_norm(o, w["g_norm.weight"], eps) * F.silu(gate)) @ w["o_proj.weight"].T


def plain_logits(weights, tokens):
    weights = {name: values.double() for name, values in weights.items()}
    eps = CONFIGURATION["norm_eps"]

    def part(prefix):
        return {name[len(prefix) :]: values for name, values in weights.items() if name.startswith(prefix)}

    x = weights["model.embeddings.weight"][tokens]
    for i in range(CONFIGURATION["num_hidden_layers"]):
        w = part(f"model.layers.{i}.")
        # fla's gated norm takes its own default, 1e-6, whatever the configuration says.
        x = x + attention(
            rms_norm(x, w["attn_norm.weight"], eps), part(f"model.layers.{i}.attn."), CONFIGURATION["num_heads"], 1e-6
        )
        y = rms_norm(x, w["mlp_norm.weight"], eps)
        hidden = F.silu(y @ w["mlp.gate_proj.weight"].T) * (y @ w["mlp.up_proj.weight"].T)
        x = x + hidden @ w["mlp.down_proj.weight"].T
    return rms_norm(x, weights["model.norm.weight"], eps) @ weights["lm_head.weight"].T


# --- fla's own model


def take_first_configurations():
    """One configuration of each of fla's kernels will do, which saves compiling, and timing what TRITON_INTERPRET=1 runs."""
    from triton.runtime.autotuner import Autotuner

    with_all = Autotuner.__init__

    def with_first(self, function, names, configurations, *others, **more):
        with_all(self, function, names, configurations[:1], *others, **more)

    Autotuner.__init__ = with_first


def name_log1p():
    """Triton's interpreter, which needs no GPU, knows none of the functions of CUDA's libdevice; fla uses this one."""
    import fla.ops.utils.op
    import triton.language

    fla.ops.utils.op.tldevice.log1p = lambda x: triton.language.log(1 + x)


def fla_logits(weights, tokens):
    take_first_configurations()
    if os.environ.get("TRITON_INTERPRET") == "1":
        name_log1p()
    from fla.models.lightnet import LightNetConfig, LightNetForCausalLM

    settings = {name: value for name, value in CONFIGURATION.items() if name != "model_type"}
    model = LightNetForCausalLM(LightNetConfig(**settings, use_cache=False))
    model.load_state_dict(weights, strict=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.to(device, torch.float32).eval()
    with torch.no_grad():
        return model(tokens.to(device)).logits.cpu()


# --- Files


TYPES = {"F32": torch.float32, "I64": torch.int64}


def write_safetensors(path, tensors, metadata):
    names = {type_: name for name, type_ in TYPES.items()}
    header, offset = {"__metadata__": metadata}, 0
    for name, values in tensors.items():
        size = values.numel() * values.element_size()
        header[name] = {
            "dtype": names[values.dtype],
            "shape": list(values.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for values in tensors.values():
            file.write(values.contiguous().numpy().tobytes())


def read_safetensors(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = bytearray(file.read())
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        tensors[name] = torch.frombuffer(data[begin:end], dtype=TYPES[entry["dtype"]]).view(entry["shape"])
    return tensors, header.get("__metadata__", {})


def compare(path):
    tensors, metadata = read_safetensors(path)
    print(f"{path}: made by {metadata['made_by']}")
    logits, tokens = tensors.pop("logits").double(), tensors.pop("input_ids")
    references = {"the formulas in double": plain_logits}
    if importlib.util.find_spec("fla"):
        references["fla"] = fla_logits
    else:
        print("fla is not asked: it is not installed")
    failures = 0
    for name, logits_of in references.items():
        far = float((logits_of(tensors, tokens).double() - logits).abs().max())
        failures += not far <= TOLERANCE
        verdict = "ok  " if far <= TOLERANCE else "FAIL"
        print(f"{verdict} {name}: largest difference {far:.1e}, of {float(logits.abs().max()):.1f}")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", metavar="FILE")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--modules", choices=("fla", "plain"), help="make the file, with logits of these")
    what.add_argument("--compare", action="store_true", help="check a file that is there")
    arguments = parser.parse_args()
    if not arguments.compare:
        weights, tokens = make_weights(), make_tokens()
        logits = (fla_logits if arguments.modules == "fla" else plain_logits)(weights, tokens)
        made_by = f"torch {torch.__version__}"
        if arguments.modules == "fla":
            made_by = f"flash-linear-attention {importlib.metadata.version('flash-linear-attention')}, {made_by}"
        metadata = {"made_by": made_by, "config": json.dumps(CONFIGURATION)}
        write_safetensors(arguments.path, {**weights, "input_ids": tokens, "logits": logits.float()}, metadata)
    return compare(arguments.path) > 0


if __name__ == "__main__":
    sys.exit(main())
