// SPDX-License-Identifier: Apache-2.0
#include "harness/operands.hpp"
#include "rows.hpp"

#include <lightnet/recurrence/elementwise_scan.hpp>

#include <utility>

namespace bench {

namespace {

struct sequences {
  ln::tensor<ln::rank<4>, float> x, log_decay, o, do_, dx, dlog_decay;  // [B, N, H, d]
  ln::execution<ln::cpu> on{1};

  explicit sequences(const problem& p)
      : x{normal_tensor<float>(p, 1)}, log_decay{x}, o{x}, do_{normal_tensor<float>(p, 2)}, dx{x}, dlog_decay{x} {
    fill(log_decay, 3, hgrn2_decay);
  }
  ln::scan_inputs<ln::elementwise> inputs() const { return {.x = x.view(), .log_decay = log_decay.view()}; }
  void forward() { ln::scan<ln::elementwise, ln::causal>(on, inputs(), {.o = o.view()}); }
  void backward() {
    ln::scan_backward<ln::elementwise, ln::causal>(on, inputs(), {.o = std::as_const(do_).view()},
                                                   {.x = dx.view(), .log_decay = dlog_decay.view()});
  }
};

}  // namespace

// Three sequences are read or written forward, five backward: x and the decays again, the gradients of the three.
void add_elementwise_rows() {
  for (const bool forward : {true, false}) {
    for (const std::int64_t width : {64, 128}) {
      const problem p{.width = width};
      const auto d = static_cast<double>(width);
      const row r{.name = p.name(forward ? "elementwise/causal/forward" : "elementwise/causal/backward"),
                  .tokens = p.token_heads(),
                  .least = {p.token_heads() * (forward ? 2 : 5) * d,
                            p.token_heads() * (forward ? 3 : 5) * d * sizeof(float), limit::copying},
                  .wanted = {.of_limit = 0.7},
                  .prepare = [p, forward] {
                    const auto own = std::make_shared<sequences>(p);
                    task made{.call = [own, forward] { forward ? own->forward() : own->backward(); }};
                    add_plain(made, forward ? plain::elementwise_forward : plain::elementwise_backward, p.width,
                              {decay_source::share::channel, hgrn2_decay});
                    return made;
                  }};
      add(r);
    }
  }
}

}  // namespace bench
