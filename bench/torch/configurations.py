# SPDX-License-Identifier: Apache-2.0
"""Which of their configurations Triton's kernels are tuned with. Has to come before the import of what defines them."""

from triton.runtime.autotuner import Autotuner
from triton.testing import do_bench


def keep(choice):
    """From now on, a kernel that is defined is tuned with configurations[choice] alone, or the first where those are none; a
    configuration is tried for 20 ms, as the kernels compared here take less than 1."""
    make = Autotuner.__init__

    def make_with_choice(self, function, names, configurations, *others, **more):
        more["do_bench"] = lambda call, quantiles: do_bench(call, warmup=5, rep=20, quantiles=quantiles)
        make(self, function, names, configurations[choice] or configurations[:1], *others, **more)

    Autotuner.__init__ = make_with_choice
