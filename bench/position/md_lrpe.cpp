// SPDX-License-Identifier: Apache-2.0
#include "recurrence/scan_rows.hpp"
#include "rows.hpp"

#include <lightnet/position/encode.hpp>
#include <lightnet/recurrence/additive.hpp>

namespace bench {

namespace {

/// The encoding by itself: all heads of a token turn by the same angles, which are at hand.
struct encoding {
  ln::tensor<ln::rank<4>, float> x, y;          // [B, N, H, d], [B, N, H, 2 d]
  ln::tensor<ln::rank<3>, float> cosine, sine;  // [1, N, d]
  ln::execution<ln::cpu> on{1};

  explicit encoding(const problem& p)
      : x{normal_tensor<float>(p, 1)},
        y{{{1, p.tokens, p.heads, 2 * p.width}}},
        cosine{{{1, p.tokens, p.width}}},
        sine{{{1, p.tokens, p.width}}} {
    for (std::int64_t t = 0; t < p.tokens; ++t) {
      for (std::int64_t i = 0; i < p.width; ++i) {
        const double angle = static_cast<double>(t) * ln::md_lrpe::theta(i, p.width, 1);
        cosine.view()(0, t, i) = static_cast<float>(std::cos(angle));
        sine.view()(0, t, i) = static_cast<float>(std::sin(angle));
      }
    }
  }
  void apply() {
    ln::detail::encode_sequence<ln::md_lrpe, 1, float>(on, std::as_const(x).view(), y.view(),
                                                       std::as_const(cosine).view(), std::as_const(sine).view());
  }
};

void add_apply_row(const problem& p) {
  const auto d = static_cast<double>(p.width);
  const double numbers = 3 * d + 2 * d / static_cast<double>(p.heads);
  const row r{.name = p.name("md_lrpe/apply"),
              .tokens = p.token_heads(),
              .least = {p.token_heads() * 2 * d, p.token_heads() * numbers * sizeof(float), limit::copying},
              .wanted = {.of_limit = 0.7},
              .prepare = [p] {
                const auto own = std::make_shared<encoding>(p);
                task made{.call = [own] { own->apply(); }};
                add_plain(made, plain::md_lrpe_apply, p.width);
                return made;
              }};
  add(r);
}

}  // namespace

// Inside of scan the encoding acts on what is on its way into a product anyway, and doubles d: the work of a row is
// that of a state of 2 d keys.
void add_md_lrpe_rows() {
  for (const std::int64_t width : {64, 128}) add_apply_row({.width = width});
  const operation causal{.name = "additive/causal/md_lrpe", .plain_forward = plain::additive_causal_lrpe_forward};
  const operation global{.name = "additive/global/md_lrpe", .plain_forward = plain::additive_global_lrpe_forward};
  add_scan_rows<ln::additive, ln::causal, ln::md_lrpe>(causal);
  add_scan_rows<ln::additive, ln::global, ln::md_lrpe, 2>(global);
}

}  // namespace bench
