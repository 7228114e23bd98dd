// SPDX-License-Identifier: Apache-2.0
// Oracle 1: the recurrence, token by token, in long double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "position.hpp"
#include "problem.hpp"

namespace oracle {

struct recurrence_answer {
  std::vector<double> o;            // [B, N, H, e]
  std::vector<double> unit;         // [B, N, H, e]: sum_s |q| w_s |v_s|, the initial state's share included
  std::vector<double> z;            // [S, H, w]: final normaliser, additive only; no state for two directions
  std::vector<double> s;            // [S, H, d', e]: final state
  std::vector<double> s_unit;       // [S, H, d', e]: sum_s w_s |v_s|, the unit of s
  std::vector<double> decay;        // [S, H, w]: the product of all decays, decays only
  std::vector<double> input;        // [S, H, d', e]: the sum of all k v^T, additive_plain only
  std::vector<double> input_unit;   // [S, H, d', e]: the same with the magnitude of every term
  std::vector<long double> o_long;  // o before rounding
};

namespace recurrence_detail {

using real = long double;
constexpr real empty = -std::numeric_limits<real>::infinity();

// e^(x - m), where x = -inf counts as nothing whatever m is.
inline real weight(real x, real m) { return x == empty ? 0 : std::exp(x - m); }

// A matrix [d', e], and the same sum with the magnitude of every term, which needs few digits; features that an encoding
// mixes share theirs.
struct sum {
  std::vector<real> value;
  std::vector<double> size;
};

// The state of one head of one sequence. A normaliser is e^m z; it is empty while m = -inf and z = 0.
struct state {
  std::vector<real> m, z;   // [w]
  std::vector<real> decay;  // [w]
  sum s, input;
};

// One head of one sequence.
struct head {
  const problem& p;
  span where;
  std::int64_t h;

  std::size_t weights() const { return static_cast<std::size_t>(p.weights()); }
  std::size_t channels() const { return static_cast<std::size_t>(p.keys); }
  std::size_t rows() const { return static_cast<std::size_t>(p.features()); }
  std::size_t columns() const { return static_cast<std::size_t>(p.values); }
  bool on(std::int64_t t) const { return p.on(where.batch, t); }
  real logit(std::int64_t t, std::size_t n) const {
    return p.logit_at(where.batch, t, h, static_cast<std::int64_t>(n));
  }
  // One number a weight, as one a channel.
  template <class X>
  const X& of_channel(const std::vector<X>& x, std::size_t i) const {
    return x[x.size() == 1 ? 0 : i];
  }

  // The position encoding of token t on a vector of d channels: d' features.
  std::vector<real> encode(const std::vector<real>& x, std::int64_t t) const {
    std::vector<real> angles;
    for (std::int64_t a = 0; a < p.angle_count(); ++a) angles.push_back(p.angle_at(t, h, a));
    return lrpe(p.position, x, angles);
  }
  std::vector<real> query(std::int64_t t) const {
    std::vector<real> x;
    for (std::int64_t i = 0; i < p.keys; ++i) x.push_back(p.q_at(where.batch, t, h, i));
    return encode(x, t);
  }
  std::vector<real> value(std::int64_t t) const {
    std::vector<real> x;
    for (std::int64_t j = 0; j < p.values; ++j) x.push_back(p.v_at(where.batch, t, h, j));
    return x;
  }
  // What the weight of channel i is multiplied by: the key, where the keys are not the logits.
  real kappa(std::int64_t t, std::size_t i) const {
    if (p.kind == recurrence::additive) return 1;
    if (p.kind == recurrence::hgrn2) return p.with_sign ? 1 - logit(t, i) : -std::expm1(logit(t, i));
    return p.k_at(where.batch, t, h, static_cast<std::int64_t>(i));
  }

  // The feature that the encoding turns feature f into and out of: itself where there is none.
  std::size_t partner(std::size_t f) const {
    const std::size_t half = rows() / 2;
    if (p.position == encoding::none || f >= 2 * half) return f;
    if (p.position == encoding::rotate_neighbours) return f % 2 == 0 ? f + 1 : f - 1;
    return f < half ? f + half : f - half;
  }
  // |x_f|, or the length of the pair.
  std::vector<double> magnitude(const std::vector<real>& x) const {
    std::vector<double> out;
    for (std::size_t f = 0; f < rows(); ++f) {
      out.push_back(static_cast<double>(partner(f) == f ? std::abs(x[f]) : std::hypot(x[f], x[partner(f)])));
    }
    return out;
  }

  state initial() const {
    const sum nothing{std::vector<real>(rows() * columns(), 0), std::vector<double>(rows() * columns(), 0)};
    state now{std::vector<real>(weights(), empty), std::vector<real>(weights(), 0), std::vector<real>(weights(), 1),
              nothing, nothing};
    for (std::size_t n = 0; n < weights() && !p.z0.empty(); ++n) {
      now.m[n] = p.z0_at(where.sequence, h, static_cast<std::int64_t>(n));
      now.z[n] = now.m[n] == empty ? 0 : 1;
    }
    for (std::size_t j = 0; j < columns(); ++j) {
      std::vector<real> column;
      for (std::size_t f = 0; f < rows(); ++f) {
        const bool ignored = p.additive() && of_channel(now.m, f % channels()) == empty;
        const auto row = static_cast<std::int64_t>(f), place = static_cast<std::int64_t>(j);
        column.push_back(ignored ? 0 : p.s0_at(where.sequence, h, row, place));
      }
      const std::vector<double> length = magnitude(column);
      for (std::size_t f = 0; f < rows(); ++f) {
        now.s.value[f * columns() + j] = column[f];
        now.s.size[f * columns() + j] = length[f];
      }
    }
    return now;
  }

  // S = keep * S, by channel.
  void scale(sum& s, const std::vector<real>& keep) const {
    for (std::size_t f = 0; f < rows(); ++f) {
      const real by = of_channel(keep, f % channels());
      const auto size = static_cast<double>(std::abs(by));
      for (std::size_t n = f * columns(); n < (f + 1) * columns(); ++n) s.value[n] *= by;
      for (std::size_t n = f * columns(); n < (f + 1) * columns(); ++n) s.size[n] *= size;
    }
  }
  // S = S + key v_t^T, with the key encoded.
  void add(sum& s, const std::vector<real>& key, std::int64_t t) const {
    const std::vector<real> encoded = encode(key, t), v = value(t);
    const std::vector<double> length = magnitude(encoded);
    std::vector<double> sizes;
    for (const real x : v) sizes.push_back(static_cast<double>(std::abs(x)));
    for (std::size_t f = 0; f < rows(); ++f) {
      for (std::size_t j = 0; j < columns(); ++j) s.value[f * columns() + j] += encoded[f] * v[j];
      for (std::size_t j = 0; j < columns(); ++j) s.size[f * columns() + j] += length[f] * sizes[j];
    }
  }

  // S_t = a_t S_{t-1} + key_t v_t^T. For the additive recurrences a_t = Z_{t-1} / Z_t, and key_t = e^{logit_t} / Z_t,
  // times the key of the token where it has one; additive_plain takes that alone.
  void step(state& now, std::int64_t t) const {
    std::vector<real> keep, share, key, plain;
    for (std::size_t n = 0; n < weights(); ++n) {
      const real x = logit(t, n);
      if (!p.additive()) {
        keep.push_back(p.with_sign ? x : std::exp(x));
        share.push_back(1);
        now.decay[n] *= keep[n];
        continue;
      }
      const real m = std::max(now.m[n], x);
      const real before = now.z[n] * weight(now.m[n], m);
      const real after = before + weight(x, m);
      keep.push_back(after == 0 ? 0 : before / after);
      share.push_back(after == 0 ? 0 : p.kind == recurrence::additive_plain ? 1 : weight(x, m) / after);
      now.m[n] = m;
      now.z[n] = after;
    }
    for (std::size_t i = 0; i < channels(); ++i) {
      plain.push_back(kappa(t, i));
      key.push_back(of_channel(share, i) * plain[i]);
    }
    scale(now.s, keep);
    add(now.s, key, t);
    if (p.kind == recurrence::additive_plain) add(now.input, plain, t);
  }

  // S = (Z_0 / Z) S_0 + sum_s key_s v_s^T over all tokens at once, key_s = e^{logit_s} / Z; without decay Z is 1.
  state total() const {
    state now = initial();
    std::vector<real> keep(weights(), 1);
    for (std::size_t n = 0; n < weights() && p.additive(); ++n) {
      real m = now.m[n];
      for (std::int64_t t = where.first; t < where.last; ++t)
        if (on(t)) m = std::max<real>(m, logit(t, n));
      const real before = now.z[n] * weight(now.m[n], m);
      real after = before;
      for (std::int64_t t = where.first; t < where.last; ++t)
        if (on(t)) after += weight(logit(t, n), m);
      keep[n] = after == 0 ? 0 : before / after;
      now.m[n] = m;
      now.z[n] = after;
    }
    scale(now.s, keep);
    for (std::int64_t t = where.first; t < where.last; ++t) {
      if (!on(t)) continue;
      std::vector<real> key;
      for (std::size_t i = 0; i < channels(); ++i) {
        const std::size_t n = weights() == 1 ? 0 : i;
        const real share = !p.additive() ? 1 : now.z[n] == 0 ? 0 : weight(logit(t, n), now.m[n]) / now.z[n];
        key.push_back(share * kappa(t, i));
      }
      add(now.s, key, t);
    }
    return now;
  }

  // The tokens that are not deleted, in the order of every walk that the traversal takes.
  std::vector<std::vector<std::int64_t>> walks() const {
    std::vector<std::vector<std::int64_t>> lines;
    const auto take = [&](std::int64_t first, std::int64_t step, std::int64_t count) {
      lines.emplace_back();
      for (std::int64_t n = 0; n < count; ++n)
        if (on(first + n * step)) lines.back().push_back(first + n * step);
    };
    if (p.order == traversal::axial && p.cumulative_lengths.empty()) {
      std::int64_t step = p.tokens;
      for (const std::int64_t extent : p.extents) {
        const std::int64_t block = step;
        step /= extent;
        for (std::int64_t start = 0; start < p.tokens; start += block)
          for (std::int64_t other = 0; other < step; ++other) take(start + other, step, extent);
      }
    } else {
      take(where.first, 1, where.last - where.first);
    }
    const std::size_t forward = p.order == traversal::causal || p.order == traversal::global ? 0 : lines.size();
    for (std::size_t n = 0; n < forward; ++n) lines.emplace_back(lines[n].rbegin(), lines[n].rend());
    return lines;
  }

  // o_t += S^T q_t
  void read(const state& now, std::int64_t t, std::vector<real>& o, std::vector<double>& unit) const {
    const std::vector<real> q = query(t);
    const std::vector<double> length = magnitude(q);
    const std::size_t place = problem::at(where.batch, p.tokens, t, p.heads, h, p.values, 0);
    for (std::size_t f = 0; f < rows(); ++f) {
      const double size = length[f] / (partner(f) == f ? 1 : 2);  // a pair counts once
      for (std::size_t j = 0; j < columns(); ++j) o[place + j] += q[f] * now.s.value[f * columns() + j];
      for (std::size_t j = 0; j < columns(); ++j) unit[place + j] += size * now.s.size[f * columns() + j];
    }
  }
};

}  // namespace recurrence_detail

inline recurrence_answer naive_recurrence(const problem& p) {
  p.check();
  using recurrence_detail::real;
  recurrence_answer answer;
  std::vector<real> o(p.v.size(), 0);
  answer.unit.assign(p.v.size(), 0);
  const auto append = [](std::vector<double>& to, const auto& from) {
    for (const auto x : from) to.push_back(static_cast<double>(x));
  };
  for (std::int64_t s = 0; s < p.sequences(); ++s)
    for (std::int64_t h = 0; h < p.heads; ++h) {
      const recurrence_detail::head one{p, p.sequence(s), h};
      const auto walks = one.walks();
      recurrence_detail::state now = one.initial();
      if (p.order == traversal::global) now = one.total();
      for (const std::vector<std::int64_t>& walk : walks) {
        if (p.order != traversal::global) now = one.initial();
        for (const std::int64_t t : walk) {
          if (p.order != traversal::global) one.step(now, t);
          one.read(now, t, o, answer.unit);
        }
      }
      if (walks.size() > 1) continue;  // and no final state
      for (std::size_t n = 0; n < now.m.size() && p.additive(); ++n)
        answer.z.push_back(static_cast<double>(now.m[n] + std::log(now.z[n])));
      append(answer.s, now.s.value);
      append(answer.s_unit, now.s.size);
      if (!p.additive()) append(answer.decay, now.decay);
      if (p.kind != recurrence::additive_plain) continue;
      append(answer.input, now.input.value);
      append(answer.input_unit, now.input.size);
    }
  append(answer.o, o);
  answer.o_long = o;
  return answer;
}

}  // namespace oracle
