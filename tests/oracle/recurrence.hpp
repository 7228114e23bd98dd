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
  std::vector<double> z;            // [B, H, d]: final normaliser, additive only; no state for bidirectional
  std::vector<double> s;            // [B, H, d', e]: final state
  std::vector<double> s_unit;       // [B, H, d', e]: sum_s w_s |v_s|, the unit of s
  std::vector<long double> o_long;  // o before rounding
};

namespace recurrence_detail {

using real = long double;
constexpr real empty = -std::numeric_limits<real>::infinity();

// e^(x - m), where x = -inf counts as nothing whatever m is.
inline real weight(real x, real m) { return x == empty ? 0 : std::exp(x - m); }

// The state of one head of one sequence. A channel's normaliser is e^m z; it is empty while m = -inf and z = 0.
struct state {
  std::vector<real> m, z;  // [d]
  std::vector<real> s;     // [d', e]
  std::vector<real> size;  // [d', e]: s with the magnitude of every term; features that an encoding mixes share theirs
};

// One head of one sequence.
struct head {
  const problem& p;
  std::int64_t b, h;

  bool additive() const { return p.kind == recurrence::additive; }
  std::size_t channels() const { return static_cast<std::size_t>(p.keys); }
  std::size_t rows() const { return static_cast<std::size_t>(p.features()); }
  std::size_t columns() const { return static_cast<std::size_t>(p.values); }

  // The position encoding of token t on a vector of d channels: d' features.
  std::vector<real> encode(const std::vector<real>& x, std::int64_t t) const {
    std::vector<real> angles;
    for (std::int64_t a = 0; a < p.angle_count(); ++a) angles.push_back(p.angle_at(t, h, a));
    return lrpe(p.position, x, angles);
  }
  std::vector<real> query(std::int64_t t) const {
    std::vector<real> x;
    for (std::int64_t i = 0; i < p.keys; ++i) x.push_back(p.q_at(b, t, h, i));
    return encode(x, t);
  }
  std::vector<real> value(std::int64_t t) const {
    std::vector<real> x;
    for (std::int64_t j = 0; j < p.values; ++j) x.push_back(p.v_at(b, t, h, j));
    return x;
  }

  // The feature that the encoding turns feature f into and out of: itself where there is none.
  std::size_t partner(std::size_t f) const {
    const std::size_t half = rows() / 2;
    if (p.position == encoding::none || f >= 2 * half) return f;
    if (p.position == encoding::rotate_neighbours) return f % 2 == 0 ? f + 1 : f - 1;
    return f < half ? f + half : f - half;
  }
  // |x_f|, or the length of the pair.
  std::vector<real> magnitude(const std::vector<real>& x) const {
    std::vector<real> out;
    for (std::size_t f = 0; f < rows(); ++f) {
      out.push_back(partner(f) == f ? std::abs(x[f]) : std::hypot(x[f], x[partner(f)]));
    }
    return out;
  }

  state initial() const {
    state now{std::vector<real>(channels(), empty), std::vector<real>(channels(), 0),
              std::vector<real>(rows() * columns(), 0), std::vector<real>(rows() * columns(), 0)};
    for (std::size_t i = 0; i < channels() && !p.z0.empty(); ++i) {
      now.m[i] = p.z0_at(b, h, static_cast<std::int64_t>(i));
      now.z[i] = now.m[i] == empty ? 0 : 1;
    }
    for (std::size_t j = 0; j < columns(); ++j) {
      std::vector<real> column;
      for (std::size_t f = 0; f < rows(); ++f) {
        const bool ignored = additive() && now.m[f % channels()] == empty;
        column.push_back(ignored ? 0 : p.s0_at(b, h, static_cast<std::int64_t>(f), static_cast<std::int64_t>(j)));
      }
      const std::vector<real> length = magnitude(column);
      for (std::size_t f = 0; f < rows(); ++f) {
        now.s[f * columns() + j] = column[f];
        now.size[f * columns() + j] = length[f];
      }
    }
    return now;
  }

  // S = keep * S, by channel.
  void scale(state& now, const std::vector<real>& keep) const {
    for (std::size_t f = 0; f < rows(); ++f)
      for (std::size_t j = 0; j < columns(); ++j) {
        now.s[f * columns() + j] *= keep[f % channels()];
        now.size[f * columns() + j] *= keep[f % channels()];
      }
  }
  // S = S + key v_t^T, with the key encoded.
  void add(state& now, const std::vector<real>& key, std::int64_t t) const {
    const std::vector<real> encoded = encode(key, t);
    const std::vector<real> length = magnitude(encoded);
    const std::vector<real> v = value(t);
    for (std::size_t f = 0; f < rows(); ++f)
      for (std::size_t j = 0; j < columns(); ++j) {
        now.s[f * columns() + j] += encoded[f] * v[j];
        now.size[f * columns() + j] += length[f] * std::abs(v[j]);
      }
  }

  // S_t = a_t S_{t-1} + key_t v_t^T. For the additive recurrence a_t = Z_{t-1} / Z_t and key_t = e^{k_t} / Z_t.
  void step(state& now, std::int64_t t) const {
    std::vector<real> keep, key;
    for (std::size_t i = 0; i < channels(); ++i) {
      const real k = p.k_at(b, t, h, static_cast<std::int64_t>(i));
      if (p.kind == recurrence::no_decay) {
        keep.push_back(1);
        key.push_back(k);
      } else if (p.kind == recurrence::constant_decay) {
        keep.push_back(std::exp(static_cast<real>(p.log_decay[static_cast<std::size_t>(h)])));
        key.push_back(k);
      } else {
        const real m = std::max(now.m[i], k);
        const real before = now.z[i] * weight(now.m[i], m);
        const real after = before + weight(k, m);
        keep.push_back(after == 0 ? 0 : before / after);
        key.push_back(after == 0 ? 0 : weight(k, m) / after);
        now.m[i] = m;
        now.z[i] = after;
      }
    }
    scale(now, keep);
    add(now, key, t);
  }

  // S = (Z_0 / Z) S_0 + sum_s key_s v_s^T over all tokens at once, key_s = e^{k_s} / Z; without decay Z is 1.
  state total() const {
    state now = initial();
    std::vector<real> keep(channels(), 1);
    for (std::size_t i = 0; i < channels() && additive(); ++i) {
      real m = now.m[i];
      for (std::int64_t t = 0; t < p.tokens; ++t)
        if (p.on(b, t)) m = std::max<real>(m, p.k_at(b, t, h, static_cast<std::int64_t>(i)));
      const real before = now.z[i] * weight(now.m[i], m);
      real after = before;
      for (std::int64_t t = 0; t < p.tokens; ++t)
        if (p.on(b, t)) after += weight(p.k_at(b, t, h, static_cast<std::int64_t>(i)), m);
      keep[i] = after == 0 ? 0 : before / after;
      now.m[i] = m;
      now.z[i] = after;
    }
    scale(now, keep);
    for (std::int64_t t = 0; t < p.tokens; ++t) {
      if (!p.on(b, t)) continue;
      std::vector<real> key;
      for (std::size_t i = 0; i < channels(); ++i) {
        const real k = p.k_at(b, t, h, static_cast<std::int64_t>(i));
        key.push_back(!additive() ? k : now.z[i] == 0 ? 0 : weight(k, now.m[i]) / now.z[i]);
      }
      add(now, key, t);
    }
    return now;
  }

  // o_t += S^T q_t
  void read(const state& now, std::int64_t t, std::vector<real>& o, std::vector<real>& unit) const {
    const std::vector<real> q = query(t);
    const std::vector<real> length = magnitude(q);
    for (std::size_t j = 0; j < columns(); ++j) {
      const std::size_t place = problem::at(b, p.tokens, t, p.heads, h, p.values, static_cast<std::int64_t>(j));
      for (std::size_t f = 0; f < rows(); ++f) {
        o[place] += q[f] * now.s[f * columns() + j];
        unit[place] += length[f] * now.size[f * columns() + j] / (partner(f) == f ? 1 : 2);  // a pair counts once
      }
    }
  }
};

}  // namespace recurrence_detail

inline recurrence_answer naive_recurrence(const problem& p) {
  p.check();
  using recurrence_detail::real;
  recurrence_answer answer;
  std::vector<real> o(p.v.size(), 0), unit(p.v.size(), 0);
  for (std::int64_t b = 0; b < p.batch; ++b)
    for (std::int64_t h = 0; h < p.heads; ++h) {
      const recurrence_detail::head one{p, b, h};
      recurrence_detail::state now = p.order == traversal::global ? one.total() : one.initial();
      for (std::int64_t t = 0; t < p.tokens; ++t) {
        if (!p.on(b, t)) continue;
        if (p.order != traversal::global) one.step(now, t);
        one.read(now, t, o, unit);
      }
      if (p.order == traversal::bidirectional) {
        now = one.initial();
        for (std::int64_t t = p.tokens - 1; t >= 0; --t) {
          if (!p.on(b, t)) continue;
          one.step(now, t);
          one.read(now, t, o, unit);
        }
        continue;  // and no final state
      }
      for (std::size_t i = 0; i < now.m.size() && one.additive(); ++i)
        answer.z.push_back(static_cast<double>(now.m[i] + std::log(now.z[i])));
      for (const real s : now.s) answer.s.push_back(static_cast<double>(s));
      for (const real s : now.size) answer.s_unit.push_back(static_cast<double>(s));
    }
  for (const real x : o) answer.o.push_back(static_cast<double>(x));
  for (const real x : unit) answer.unit.push_back(static_cast<double>(x));
  answer.o_long = o;
  return answer;
}

}  // namespace oracle
