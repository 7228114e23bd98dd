// SPDX-License-Identifier: Apache-2.0

// The shapes that fla's operators were measured in, so that shares of the limit can be compared.

#include "cuda/row.cuh"

#include <lightnet/recurrence.hpp>

#include <memory>

namespace bench {
namespace {

struct shape {
  std::int64_t batch, tokens, heads, width;

  double elements() const { return static_cast<double>(batch * tokens * heads * width); }
  std::string text() const {
    return "b" + std::to_string(batch) + "/t" + std::to_string(tokens) + "/h" + std::to_string(heads) + "/d" +
           std::to_string(width);
  }
};

/// The arguments of a scan, q, k, v and o, and the gradients.
template <class R, class T>
struct operands {
  using tokens = ln::tensor<ln::rank<4>, T, ln::cuda>;

  tokens q, k, v, o, d_o, dq, dk, dv;

  operands(const shape& s, bool backward)
      : q{normal<T>(1, s.batch, s.tokens, s.heads, s.width)},
        k{normal<T>(2, s.batch, s.tokens, s.heads, s.width)},
        v{normal<T>(3, s.batch, s.tokens, s.heads, s.width)},
        o{q.view().extents()} {
    if (!backward) return;
    d_o = normal<T>(4, s.batch, s.tokens, s.heads, s.width);
    for (tokens* each : {&dq, &dk, &dv}) each->resize(q.view().extents());
  }
  ln::scan_inputs<R, 1, T, ln::cuda> inputs() { return {.q = q.view(), .k = k.view(), .v = v.view()}; }
};

template <class R, class V, class T, class P = ln::no_position>
void add_scan(const std::string& name, const std::string& type, const shape& s) {
  const double state = s.elements() * static_cast<double>(P::width(s.width));  // d' e of all tokens and heads
  add({name + "/forward/" + type + "/" + s.text(), 4 * s.elements() * sizeof(T), 4 * state, [s] {
         const auto all = std::make_shared<operands<R, T>>(s, false);
         return
             [all](ln::execution<ln::cuda>& on) { ln::scan<R, V, P, 1, T>(on, all->inputs(), {.o = all->o.view()}); };
       }});
  add({name + "/backward/" + type + "/" + s.text(), 7 * s.elements() * sizeof(T), 10 * state, [s] {
         const auto all = std::make_shared<operands<R, T>>(s, true);
         return [all](ln::execution<ln::cuda>& on) {
           ln::scan_backward<R, V, P, 1, T>(on, all->inputs(), {.o = all->d_o.view()},
                                            {.q = all->dq.view(), .k = all->dk.view(), .v = all->dv.view()});
         };
       }});
}

}  // namespace

void add_recurrence_rows() {
  const shape usual{32, 2048, 16, 128}, small{32, 2048, 32, 64}, narrow{256, 256, 16, 64};
  for (const shape& each : {usual, small, shape{1, 65536, 16, 128}}) {
    add_scan<ln::additive, ln::causal, ln::bfloat16>("additive/causal", "bfloat16", each);
  }
  add_scan<ln::additive, ln::causal, float>("additive/causal", "float", usual);
  add_scan<ln::additive, ln::global, ln::bfloat16>("additive/global", "bfloat16", usual);
  add_scan<ln::additive, ln::global, ln::bfloat16>("additive/global", "bfloat16", narrow);
  add_scan<ln::additive, ln::causal, ln::bfloat16, ln::md_lrpe>("additive/causal/md_lrpe", "bfloat16", small);
  add_scan<ln::additive, ln::global, ln::bfloat16, ln::md_lrpe>("additive/global/md_lrpe", "bfloat16", small);
  add_scan<ln::constant_decay, ln::causal, ln::bfloat16>("constant_decay/causal", "bfloat16", usual);
}

}  // namespace bench
