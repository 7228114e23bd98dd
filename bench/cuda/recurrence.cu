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

/// What a layer makes of standard normal numbers x in place of decays (docs/performance.md): logsigmoid(x) / 16 for
/// vector_decay, logsigmoid(x) for hgrn2, -softplus(x) / 2 for scalar_decay.
template <class R, class T>
struct make_decay {
  T* to;

  __device__ void operator()(std::int64_t i) const {
    const auto x = static_cast<float>(to[i]);
    const float by = !R::per_channel ? 0.5F : R::kappa == ln::kappa_of::key ? 0.0625F : 1.0F;
    to[i] = static_cast<T>(-by * log1pf(expf(R::per_channel ? -x : x)));
  }
};

/// The arguments of a scan, q, k, v, the decays and o, and the gradients.
template <class R, class T>
struct operands {
  using tokens = ln::tensor<ln::rank<4>, T, ln::cuda>;
  static constexpr bool has_keys = R::kappa != ln::kappa_of::complement;
  static constexpr bool has_decays = R::normaliser == ln::normaliser_of::weight && R::logits == ln::logits_from::tokens;

  tokens q, k, v, decay, o, d_o, dq, dk, dv, d_decay;

  operands(const shape& s, bool backward)
      : q{normal<T>(1, s.batch, s.tokens, s.heads, s.width)},
        v{normal<T>(3, s.batch, s.tokens, s.heads, s.width)},
        o{q.view().extents()} {
    if constexpr (has_keys) k = normal<T>(2, s.batch, s.tokens, s.heads, s.width);
    if constexpr (has_decays) {
      decay = normal<T>(5, s.batch, s.tokens, s.heads, R::per_channel ? s.width : 1);
      ln::execution<ln::cuda> on;
      ln::detail::for_each(on, "bench", decay.size(), make_decay<R, T>{decay.data()});
      on.synchronize();
    }
    if (!backward) return;
    d_o = normal<T>(4, s.batch, s.tokens, s.heads, s.width);
    for (tokens* each : {&dq, &dv}) each->resize(q.view().extents());
    if constexpr (has_keys) dk.resize(q.view().extents());
    if constexpr (has_decays) d_decay.resize(decay.view().extents());
  }
  ln::scan_inputs<R, 1, T, ln::cuda> inputs() {
    ln::scan_inputs<R, 1, T, ln::cuda> in{.q = q.view(), .v = v.view()};
    if constexpr (has_keys) in.k = k.view();
    if constexpr (has_decays) in.log_decay = decay.view();
    return in;
  }
  ln::scan_gradients<R, 1, T, ln::cuda> gradients() {
    ln::scan_gradients<R, 1, T, ln::cuda> out{.q = dq.view(), .v = dv.view()};
    if constexpr (has_keys) out.k = dk.view();
    if constexpr (has_decays) out.log_decay = d_decay.view();
    return out;
  }
  /// The elements of all inputs but d_o, or of all gradients.
  static double elements(const shape& s) {
    const double of_decays = !has_decays ? 0 : R::per_channel ? 1 : 1 / static_cast<double>(s.width);
    return s.elements() * (2 + has_keys + of_decays);
  }
};

template <class R, class V, class T, class P = ln::no_position>
void add_scan(const std::string& name, const std::string& type, const shape& s) {
  const double state = s.elements() * static_cast<double>(P::width(s.width));  // d' e of all tokens and heads
  const double inputs = operands<R, T>::elements(s);
  add({name + "/forward/" + type + "/" + s.text(), (inputs + s.elements()) * sizeof(T), 4 * state, [s] {
         const auto all = std::make_shared<operands<R, T>>(s, false);
         return
             [all](ln::execution<ln::cuda>& on) { ln::scan<R, V, P, 1, T>(on, all->inputs(), {.o = all->o.view()}); };
       }});
  add({name + "/backward/" + type + "/" + s.text(), (2 * inputs + s.elements()) * sizeof(T), 10 * state, [s] {
         const auto all = std::make_shared<operands<R, T>>(s, true);
         return [all](ln::execution<ln::cuda>& on) {
           ln::scan_backward<R, V, P, 1, T>(on, all->inputs(), {.o = all->d_o.view()}, all->gradients());
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
  for (const shape& each : {small, usual}) {
    add_scan<ln::additive, ln::causal, ln::bfloat16, ln::md_lrpe>("additive/causal/md_lrpe", "bfloat16", each);
  }
  add_scan<ln::additive, ln::global, ln::bfloat16, ln::md_lrpe>("additive/global/md_lrpe", "bfloat16", small);
  add_scan<ln::no_decay, ln::causal, ln::bfloat16>("no_decay/causal", "bfloat16", usual);
  add_scan<ln::constant_decay, ln::causal, ln::bfloat16>("constant_decay/causal", "bfloat16", usual);
  add_scan<ln::scalar_decay, ln::causal, ln::bfloat16>("scalar_decay/causal", "bfloat16", usual);
  add_scan<ln::vector_decay, ln::causal, ln::bfloat16>("vector_decay/causal", "bfloat16", usual);
  add_scan<ln::hgrn2, ln::causal, ln::bfloat16>("hgrn2/causal", "bfloat16", usual);
  add_scan<ln::constant_decay, ln::bidirectional, ln::bfloat16>("constant_decay/bidirectional", "bfloat16", usual);
  add_scan<ln::hgrn2, ln::bidirectional, ln::bfloat16>("hgrn2/bidirectional", "bfloat16", usual);
}

}  // namespace bench
