// SPDX-License-Identifier: Apache-2.0
// What a test asks a case of the list, and what comes back. All of it is in double whatever the case computes in, so a
// test is compiled once and goes through the whole list.
#pragma once

#include <lightnet/core/math.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "../oracle/position.hpp"
#include "../oracle/problem.hpp"
#include "../oracle/tolerance.hpp"

namespace cases {

namespace ln = lightnet;
using oracle::problem;

using numbers = std::vector<double>;

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

// Where the elements of a view lie: row-major; row-major with room after each row, at odd addresses; or in no order,
// with negative strides, and a grid that does not flatten.
enum class layout { dense, gapped, tangled };

// A state as it is: (m, Z, U) and X, or S and the product of the decays. The last of each are empty where not asked
// for.
struct raw_state {
  std::vector<std::int32_t> exponent = {};  // [S, H, w]
  numbers normaliser = {};                  // [S, H, w]
  numbers sum = {};                         // [S, H, d', e]
  numbers input = {};                       // [S, H, d', e]
  numbers decay = {};                       // [S, H, w]
};

struct question {
  problem p = {};
  oracle::grid where = {};
  numbers theta = {};              // [share] or [H, share]; empty: the default
  bool default_log_decay = false;  // log_decay is not given
  bool with_state = false;         // an initial state is given: p.z0 and p.s0, or `raw` where that is set
  raw_state raw = {};
  bool final_state = true;  // is asked for, where there is one
  bool mergeable = true;    // with what a merge needs
  std::int64_t chunk = 0;
  int threads = 1;
  layout memory = layout::dense;
  bool flattened = false;  // [B, N, H, d] and a grid, instead of [B, n_1..n_M, H, d]
};

struct answer {
  numbers o = {};        // [B, N, H, e]
  raw_state state = {};  // final
  bool outside = false;  // something was written where no view is
};

// What comes back: gradients by o and by the final (z, S). Empty: not given.
struct incoming {
  numbers o = {}, z = {}, s = {};
};

struct gradients {
  numbers q = {}, k = {}, v = {}, logits = {}, z0 = {}, s0 = {}, theta = {};
  bool outside = false;
};

// Where a merged state goes.
enum class merge_into { another, left, right };

enum class dtype { float64, float32, bfloat16, float16 };
enum class device { cpu, cuda };

// One entry of the list.
struct operation {
  std::string name;
  problem like;  // kind, traversal and position; no data
  int dims;
  dtype type;
  device runs_on;
  bool sink, stateful, framed, uses_tiles;  // tiles of bfloat16, where this machine has them
  answer (*forward)(const question&);
  answer (*steps)(const question&);  // token by token; null where there is no such thing
  gradients (*backward)(const question&, const incoming&);
  raw_state (*merge)(const question&, const raw_state&, const raw_state&, merge_into);  // null without states

  bool is_double() const { return type == dtype::float64; }
  bool is_half() const { return type == dtype::bfloat16 || type == dtype::float16; }
  bool additive() const { return like.additive(); }
  bool decays() const { return like.decays(); }
  bool tied() const { return like.kind == oracle::recurrence::additive; }
  bool causal() const { return like.order == oracle::traversal::causal; }
  bool ordered() const { return like.order != oracle::traversal::global; }
  bool raises_flags() const { return runs_on == device::cpu; }  // those of the floating point unit

  // What sums, states and theta are computed in.
  double epsilon() const { return is_double() ? oracle::double_epsilon : oracle::float_epsilon; }
  double smallest() const { return is_double() ? 0x1p-1022 : 0x1p-126; }
  // What storing a number may change of it.
  double storage_epsilon() const {
    return type == dtype::bfloat16 ? 0x1p-8 : type == dtype::float16 ? 0x1p-11 : epsilon();
  }
  // Units that an output may be off, and one that was reached token by token.
  double tolerance() const { return uses_tiles ? 4 * oracle::bfloat16_epsilon / oracle::float_epsilon : 32; }
  double step_tolerance(std::int64_t tokens) const {
    return std::max(tolerance(), 32 + static_cast<double>(tokens) / 32);
  }

  double rounded_sum(double x) const { return is_double() ? x : static_cast<double>(static_cast<float>(x)); }
  // To the type that sequences are stored in.
  double rounded(double x) const {
    if (!is_half()) return rounded_sum(x);
    const double step = storage_step(x);
    return std::isfinite(x) ? std::nearbyint(x / step) * step : x;
  }
  // The distance of the numbers of a half type around x.
  double storage_step(double x) const {
    const bool wide = type == dtype::bfloat16;
    const int smallest_exponent = wide ? -126 : -14, fraction = wide ? 7 : 10;
    const int exponent = x == 0 || !std::isfinite(x) ? smallest_exponent : std::max(std::ilogb(x), smallest_exponent);
    return std::ldexp(1.0, exponent - fraction);
  }

  // The largest error of an output in units of rounding. An output of a half type is rounded once more at the end.
  // Below the normal range there are no digits to keep.
  template <class Expected>
  double output_error(const numbers& got, const std::vector<Expected>& expected, numbers unit) const {
    numbers close = got;
    for (std::size_t n = 0; n < got.size(); ++n) {
      unit.at(n) += smallest() / epsilon();
      if (!is_half()) continue;
      const auto wanted = static_cast<double>(expected.at(n)), size = std::max(std::abs(wanted), std::abs(got[n]));
      const double half_step = storage_step(size) / 2;
      close[n] = std::abs(got[n] - wanted) <= half_step ? wanted : got[n] + (got[n] < wanted ? half_step : -half_step);
    }
    return oracle::error_in_units(close, expected, unit, epsilon());
  }
  template <class Expected>
  double state_error(const numbers& got, const std::vector<Expected>& expected, numbers unit) const {
    for (double& size : unit) size += smallest() / epsilon();
    return oracle::error_in_units(got, expected, unit, epsilon());
  }
};

// The logits or decays that a problem has apart from the keys.
inline numbers& logits_of(problem& p) { return p.decays() ? p.log_decay : p.logits; }
inline const numbers& logits_of(const problem& p) { return p.decays() ? p.log_decay : p.logits; }

// How many logits or decays each token has in all heads; none for one number a head.
inline std::int64_t logit_width(const problem& p) {
  const bool of_tokens = p.has_logits() || (p.decays() && p.kind != oracle::recurrence::constant_decay);
  return of_tokens ? p.heads * p.weights() : 0;
}

// Where the normaliser or decay of row f of a state is, in [.., w].
inline std::size_t weight_of_row(const problem& p, std::int64_t head, std::int64_t f) {
  return static_cast<std::size_t>(head * p.weights() + (p.weights() == 1 ? 0 : f % p.keys));
}

// z = m ln 2 + log Z
inline numbers log_normaliser(const raw_state& state) {
  numbers z;
  for (std::size_t n = 0; n < state.normaliser.size(); ++n) {
    z.push_back(static_cast<double>(static_cast<long double>(state.exponent[n]) * std::log(2.0L) +
                                    std::log(static_cast<long double>(state.normaliser[n]))));
  }
  return z;
}

// S = U / Z, 0 in an empty channel; or S itself.
inline numbers mean_state(const raw_state& state, const problem& p) {
  if (state.normaliser.empty()) return state.sum;
  numbers s = state.sum;
  for (std::size_t n = 0; n < s.size(); ++n) {
    const std::int64_t row = static_cast<std::int64_t>(n) / p.values;
    const double z = state.normaliser[weight_of_row(p, row / p.features(), row % p.features())];
    s[n] = z == 0 ? 0 : s[n] / z;
  }
  return s;
}

// The state of no tokens.
inline raw_state empty_state(const problem& p) {
  raw_state state;
  state.sum.resize(static_cast<std::size_t>(p.sequences() * p.heads * p.features() * p.values));
  const auto weights = static_cast<std::size_t>(p.sequences() * p.heads * p.weights());
  if (p.additive()) {
    state.normaliser.assign(weights, 0);
    state.exponent.assign(weights, ln::empty_exponent);
  } else {
    state.decay.assign(weights, 1);
  }
  if (p.kind == oracle::recurrence::additive_plain) state.input.resize(state.sum.size());
  return state;
}

// (m, Z, U) of p.z0 and p.s0; S alone for a decay. The U of an empty channel is NaN, for nobody may read it.
inline raw_state raw_of(const problem& p) {
  raw_state state = empty_state(p);
  if (!p.s0.empty()) state.sum = p.s0;
  if (!p.additive()) return state;
  for (std::size_t n = 0; n < p.z0.size(); ++n) {
    const double z = p.z0[n];
    if (z == -inf) continue;
    const double m = std::rint(z / std::log(2.0));
    state.exponent[n] = static_cast<std::int32_t>(m);
    const long double rest = static_cast<long double>(z) - static_cast<long double>(m) * std::log(2.0L);
    state.normaliser[n] = static_cast<double>(std::exp(rest));
  }
  for (std::size_t n = 0; n < state.sum.size(); ++n) {
    const std::int64_t row = static_cast<std::int64_t>(n) / p.values;
    const double z = state.normaliser[weight_of_row(p, row / p.features(), row % p.features())];
    state.sum[n] = z == 0 ? not_a_number : state.sum[n] * z;
  }
  return state;
}

// The state that a walk begins with: the one given, or that of no tokens, in which a sink weighs 1.
inline raw_state first_state(const question& x, bool sink) {
  if (x.with_state) return x.raw.sum.empty() ? raw_of(x.p) : x.raw;
  raw_state state = empty_state(x.p);
  if (sink) {
    state.normaliser.assign(state.normaliser.size(), 1);
    state.exponent.assign(state.exponent.size(), 0);
  }
  return state;
}

// Equal bits, NaN being equal to NaN.
inline bool same(const numbers& a, const numbers& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](double x, double y) { return x == y ? std::signbit(x) == std::signbit(y) : x != x && y != y; });
}
inline bool same(const raw_state& a, const raw_state& b) {
  return a.exponent == b.exponent && same(a.normaliser, b.normaliser) && same(a.sum, b.sum) && same(a.input, b.input) &&
         same(a.decay, b.decay);
}
inline bool same(const gradients& a, const gradients& b) {
  return same(a.q, b.q) && same(a.k, b.k) && same(a.v, b.v) && same(a.logits, b.logits) && same(a.z0, b.z0) &&
         same(a.s0, b.s0) && same(a.theta, b.theta);
}

inline std::string describe(const operation& op, const question& x) {
  std::string text = op.name + ", grid";
  for (const std::int64_t extent : x.where.extents) text.append(" ").append(std::to_string(extent));
  text += ", prefix " + std::to_string(x.where.prefix) + ", B " + std::to_string(x.p.batch) + ", H " +
          std::to_string(x.p.heads) + ", d " + std::to_string(x.p.keys) + ", e " + std::to_string(x.p.values) +
          ", chunk " + std::to_string(x.chunk) + ", layout " + std::to_string(static_cast<int>(x.memory)) +
          (x.flattened ? ", flattened" : "") + (x.p.mask.empty() ? "" : ", masked") +
          (x.with_state ? ", with state" : "");
  for (const std::int64_t length : x.p.cumulative_lengths) text.append(", until ").append(std::to_string(length));
  return text;
}

}  // namespace cases
