# SPDX-License-Identifier: Apache-2.0
"""The operators beside fla's: outputs and gradients, in float32 and bfloat16.

    python3 bench/torch/operators_test.py [REGEX]

What is right is summed in double. Prints how far both are from that (the norm of the difference over the norm), and fails
where ours is further than the type allows, or than twice the best of fla's, of those gradients that fla gives: it refuses
some with the Triton of a machine. REGEX chooses checks, by their titles.
"""

import re
import sys
from functools import partial

import torch

import configurations
import operators

configurations.keep(slice(1))  # compared, not timed: one of each will do, and takes minutes less to compile

from family import MEMBERS, distance, exact, inputs_of, with_gradients, with_gradients_if_any  # noqa: E402

ALLOWED = {torch.float32: 2e-5, torch.bfloat16: 2e-2}


def report(good, text):
    print(f"{'ok  ' if good else 'FAIL'} {text}", flush=True)
    return not good


def accuracy(name, member, type_, d):
    """Causal outputs and gradients, ours and fla's: the number of ours that are wrong."""
    allowed = ALLOWED[type_]
    shape = (2, 200, 3, d)
    inputs = inputs_of(member, shape, type_)
    d_o = torch.randn(shape, device="cuda", dtype=type_)
    right = exact(member.in_double, inputs, d_o)
    ours = with_gradients(member.ours, inputs, d_o)
    peers = [with_gradients_if_any(peer, inputs, d_o) for peer in member.fla.values()]
    failures = 0
    if name == "additive":  # whose gradients fla has to give, or nothing is compared
        failures += report(all(len(peer) > 1 for peer in peers), f"additive, {type_}, d {d}: fla gave gradients")
    for of, expected in right.items():
        far = distance(ours[of], expected, expected)
        of_peers = [distance(peer[of], expected, expected) for peer in peers if of in peer]
        good = far <= allowed and far <= 2 * max(min(of_peers, default=allowed), allowed / 100)
        said = ", ".join(f"{x:.1e}" for x in of_peers) or "none"
        failures += report(good, f"{name}, {type_}, d {d}, {of}: {far:.1e} (fla: {said})")
    return failures


def of_all_tokens(name, member, type_):
    """The same of the traversal `global`, which fla has not."""
    shape = (2, 200, 3, 128)
    inputs = inputs_of(member, shape, type_)
    d_o = torch.randn(shape, device="cuda", dtype=type_)
    right = exact(member.global_in_double, inputs, d_o)
    ours = with_gradients(lambda **all_: member.ours(**all_, traversal="global"), inputs, d_o)
    failures = 0
    for of, expected in right.items():
        far = distance(ours[of], expected, expected)
        failures += report(far <= ALLOWED[type_], f"{name}, {type_}, global, {of}: {far:.1e}")
    return failures


def packed(name, member):
    """Whether sequences in one batch give what they give alone."""
    shape = (1, 150, 2, 64)
    inputs = inputs_of(member, shape, torch.bfloat16)
    d_o = torch.randn(shape, device="cuda", dtype=torch.bfloat16)
    ends = [0, 70, 70, 150]
    lengths = torch.tensor(ends, device="cuda")
    together = with_gradients(lambda **all_: member.ours(**all_, lengths=lengths), inputs, d_o)
    alone = []
    for part in (slice(*pair) for pair in zip(ends, ends[1:])):
        of_part = {of: x[:, part] if x.dim() == 4 else x for of, x in inputs.items()}
        alone.append(with_gradients(member.ours, of_part, d_o[:, part]))
    failures = 0
    for of, x in together.items():
        parts = [each[of] for each in alone]
        expected = torch.cat(parts, 1) if x.dim() == 4 else sum(parts)
        far = distance(x, expected, expected)
        failures += report(far <= 1e-5, f"{name}, packed, {of}: {far:.1e} from each alone")
    return failures


def on_stream(name, member):
    """Whether an operator waits for what its stream is about to write, and its gradients too."""
    shape = (2, 200, 2, 64)
    inputs = inputs_of(member, shape, torch.bfloat16)
    d_o = torch.randn(shape, device="cuda", dtype=torch.bfloat16)
    expected = with_gradients(member.ours, inputs, d_o)
    late = {of: torch.zeros_like(x).requires_grad_() for of, x in inputs.items()}
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        with_gradients(member.ours, late, d_o)  # memory that is taken now cannot wait for the stream below
        torch.cuda._sleep(100_000_000)
        with torch.no_grad():
            for of, x in late.items():
                x.copy_(inputs[of])
        made = with_gradients(member.ours, late, d_o)
        torch.cuda.synchronize()
    return report(all(torch.equal(made[of], x) for of, x in expected.items()), f"{name}, on a stream of its own")


def refusals():
    """Whether what an operator cannot take is refused, in words."""
    x = torch.zeros(1, 5, 2, 8, device="cuda")
    cases = {
        "no_decay: k: expected": (ValueError, lambda: operators.no_decay(x, x.half(), x)),
        "scalar_decay: log_decay: expected": (ValueError, lambda: operators.scalar_decay(x, x, x, x[..., 0])),
        "constant_decay: log_decay: expected": (ValueError, lambda: operators.constant_decay(x, x, x, x)),
        "traversal: expected 'causal' or 'global'": (ValueError, lambda: operators.additive(x, x, x, "forwards")),
        "expected float32 or bfloat16": (ValueError, lambda: operators.elementwise(x.half(), x.half())),
        "lengths: expected": (ValueError, lambda: operators.hgrn2(x, x, x, lengths=torch.zeros(2, device="cuda"))),
        "log_decay": (RuntimeError, lambda: operators.vector_decay(x, x, x, x[..., :3])),
        "v: expected": (RuntimeError, lambda: operators.no_decay(x, x, x[:, :4])),
    }
    failures = 0
    for sentence, (kind, call) in cases.items():
        said = "nothing"
        try:
            call()
        except (ValueError, RuntimeError) as error:
            said = f"{type(error).__name__}: {error}"
        failures += report(sentence in said and said.startswith(kind.__name__), f"refused: {said}")
    return failures


def checks():
    """Titles, and functions that return the number of failures."""
    yield "refusals", refusals
    for name, member in MEMBERS.items():
        yield f"{name}, packed", partial(packed, name, member)
        yield f"{name}, on a stream", partial(on_stream, name, member)
        for type_ in ALLOWED:
            for d in (64, 128):
                yield f"{name}, {type_}, d {d}", partial(accuracy, name, member, type_, d)
            if member.global_in_double:
                yield f"{name}, {type_}, global", partial(of_all_tokens, name, member, type_)


def main():
    torch.manual_seed(0)
    chosen = sys.argv[1] if len(sys.argv) > 1 else ""
    counts = [check() for title, check in checks() if re.search(chosen, title)]
    if not counts:
        print(f"operators_test.py: no check has a title like {chosen!r}", file=sys.stderr)
    return not counts or sum(counts) > 0


if __name__ == "__main__":
    raise SystemExit(main())
