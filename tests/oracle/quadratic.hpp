// SPDX-License-Identifier: Apache-2.0
// Oracle 2: the quadratic form in double. Every token weighs every token that it sees; nothing is carried along.
// It shares no formula with the recurrence: softmax over what is seen, sums of log decays, and in a score the angles
// only as differences between query and key (a state needs them as they are).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "problem.hpp"

namespace oracle {

struct quadratic_answer {
  std::vector<double> o;  // [B, N, H, e]
  std::vector<double> z;  // [S, H, w]: final normaliser, additive only; no state for two directions
  std::vector<double> s;  // [S, H, d', e]: final state
};

namespace quadratic_detail {

// What the tokens of a list (oldest first, the reader last) and the initial state weigh, channel by channel.
struct weights {
  std::vector<std::vector<double>> token;  // [seen][d], the key included where it is no logit
  std::vector<double> state;               // [d]
  std::vector<double> z;                   // [w], log of the normaliser, additive only
};

// What one weight of a head gives to each token and to the initial state, without the keys.
struct shares {
  std::vector<double> token;
  double state, z;
};

// The logits of the tokens weigh as a softmax does, the initial state being one more of them, the oldest. With plain
// input a token weighs what all tokens up to it weigh together.
inline shares softmax_shares(const problem& p, const span& in, std::int64_t h, std::int64_t n,
                             const std::vector<std::int64_t>& seen) {
  std::vector<double> logit = {p.z0.empty() ? -std::numeric_limits<double>::infinity() : p.z0_at(in.sequence, h, n)};
  for (const std::int64_t s : seen) logit.push_back(p.logit_at(in.batch, s, h, n));
  const double top = *std::max_element(logit.begin(), logit.end());
  double sum = 0;
  std::vector<double> until;
  for (double& x : logit) {
    x = std::isinf(top) ? 0 : std::exp(x - top);
    sum += x;
    until.push_back(sum);
  }
  const auto share = [&](double part) { return sum > 0 ? part / sum : 0; };
  shares to{{}, share(logit[0]), top + std::log(sum)};
  for (std::size_t s = 1; s < logit.size(); ++s)
    to.token.push_back(share(p.kind == recurrence::additive_plain ? until[s] : logit[s]));
  return to;
}

// A token weighs e^(the log decays since), with the sign of their product; the decays are summed from the reader back.
inline shares decay_shares(const problem& p, const span& in, std::int64_t h, std::int64_t n,
                           const std::vector<std::int64_t>& seen) {
  shares to{std::vector<double>(seen.size()), 0, 0};
  double log_weight = 0;
  bool negative = false;
  const auto weight = [&] { return (negative ? -1 : 1) * std::exp(log_weight); };
  for (std::size_t s = seen.size(); s-- > 0;) {
    to.token[s] = weight();
    const double a = p.logit_at(in.batch, seen[s], h, n);
    log_weight += p.with_sign ? std::log(std::abs(a)) : a;
    negative = negative != (p.with_sign && a < 0);
  }
  to.state = weight();
  return to;
}

// What a token's value is multiplied by beside its share. 1 - e^x = 2 y / (1 + y) for y = tanh(-x/2).
inline double factor(const problem& p, const span& in, std::int64_t t, std::int64_t h, std::int64_t i) {
  if (p.kind == recurrence::additive) return 1;
  if (p.kind != recurrence::hgrn2) return p.k_at(in.batch, t, h, i);
  const double a = p.logit_at(in.batch, t, h, i);
  const double y = std::tanh(-a / 2);
  return p.with_sign ? 1 - a : 2 * y / (1 + y);
}

inline weights weigh(const problem& p, const span& in, std::int64_t h, const std::vector<std::int64_t>& seen) {
  const auto d = static_cast<std::size_t>(p.keys);
  weights w{std::vector<std::vector<double>>(seen.size(), std::vector<double>(d)), std::vector<double>(d), {}};
  shares of_weight;
  for (std::size_t i = 0; i < d; ++i) {
    const auto channel = static_cast<std::int64_t>(i);
    if (channel < p.weights()) {
      of_weight = p.additive() ? softmax_shares(p, in, h, channel, seen) : decay_shares(p, in, h, channel, seen);
      if (p.additive()) w.z.push_back(of_weight.z);
    }
    for (std::size_t s = 0; s < seen.size(); ++s)
      w.token[s][i] = of_weight.token[s] * factor(p, in, seen[s], h, channel);
    w.state[i] = of_weight.state;
  }
  return w;
}

// q_t^T (encoding of t)^T (encoding of s) w: with an encoding, only the difference of the angles matters.
inline double score(const problem& p, std::int64_t b, std::int64_t h, std::int64_t t, std::int64_t s,
                    const std::vector<double>& w) {
  const auto q = [&](std::int64_t i) { return p.q_at(b, t, h, i); };
  const auto key = [&](std::int64_t i) { return w[static_cast<std::size_t>(i)]; };
  const auto turn = [&](std::int64_t a) { return static_cast<double>(p.angle_at(s, h, a) - p.angle_at(t, h, a)); };
  double sum = 0;
  if (p.position == encoding::none || p.position == encoding::cosine) {
    for (std::int64_t i = 0; i < p.keys; ++i)
      sum += q(i) * key(i) * (p.position == encoding::cosine ? std::cos(turn(i)) : 1);
    return sum;
  }
  for (std::int64_t a = 0; a < p.keys / 2; ++a) {
    const std::int64_t x = p.position == encoding::rotate_neighbours ? 2 * a : a;
    const std::int64_t y = p.position == encoding::rotate_neighbours ? 2 * a + 1 : a + p.keys / 2;
    sum += (q(x) * key(x) + q(y) * key(y)) * std::cos(turn(a)) + (q(y) * key(x) - q(x) * key(y)) * std::sin(turn(a));
  }
  if (p.keys % 2 == 1) sum += q(p.keys - 1) * key(p.keys - 1);
  return sum;
}

// Entry [row, channel] of the matrix, [d', d], that encodes token t.
inline double encoding_entry(const problem& p, std::int64_t h, std::int64_t t, std::int64_t row, std::int64_t channel) {
  const auto angle = [&](std::int64_t a) { return static_cast<double>(p.angle_at(t, h, a)); };
  const std::int64_t half = p.keys / 2;
  if (p.position == encoding::cosine) {
    if (row == channel) return std::cos(angle(channel));
    return row == channel + p.keys ? std::sin(angle(channel)) : 0;
  }
  if (p.position == encoding::none || row >= 2 * half || channel >= 2 * half) return row == channel ? 1 : 0;
  const bool neighbours = p.position == encoding::rotate_neighbours;
  const std::int64_t pair = neighbours ? row / 2 : row % half;
  if (pair != (neighbours ? channel / 2 : channel % half)) return 0;
  if (row == channel) return std::cos(angle(pair));
  return row > channel ? std::sin(angle(pair)) : -std::sin(angle(pair));
}

// The initial state's share of row f of the state; nothing where it weighs nothing.
inline double state_share(const problem& p, const span& in, std::int64_t h, const weights& w, std::int64_t f,
                          std::int64_t j) {
  const double share = w.state[static_cast<std::size_t>(f % p.keys)];
  return share != 0 ? share * p.s0_at(in.sequence, h, f, j) : 0;
}

// o_t = sum_s score_ts v_s + (the initial state's share)
inline void read(const problem& p, const span& in, std::int64_t h, std::int64_t t,
                 const std::vector<std::int64_t>& seen, std::vector<double>& o) {
  const weights w = weigh(p, in, h, seen);
  std::vector<double> scores;
  for (std::size_t s = 0; s < seen.size(); ++s) scores.push_back(score(p, in.batch, h, t, seen[s], w.token[s]));
  for (std::int64_t j = 0; j < p.values; ++j) {
    double& out = o[problem::at(in.batch, p.tokens, t, p.heads, h, p.values, j)];
    for (std::size_t s = 0; s < seen.size(); ++s) out += scores[s] * p.v_at(in.batch, seen[s], h, j);
    for (std::int64_t f = 0; f < p.features() && !p.s0.empty(); ++f)
      for (std::int64_t i = 0; i < p.keys; ++i)
        out += encoding_entry(p, h, t, f, i) * p.q_at(in.batch, t, h, i) * state_share(p, in, h, w, f, j);
  }
}

// Whether two tokens lie on one line along an axis: apart by a multiple of its stride, and in the same block of it.
inline bool on_one_line(const problem& p, std::size_t axis, std::int64_t s, std::int64_t t) {
  if (!p.cumulative_lengths.empty()) return true;
  std::int64_t stride = 1;
  for (std::size_t a = axis + 1; a < p.extents.size(); ++a) stride *= p.extents[a];
  return (s - t) % stride == 0 && s / (stride * p.extents[axis]) == t / (stride * p.extents[axis]);
}

// What token t sees, oldest first and itself last, in each direction that the traversal looks.
inline std::vector<std::vector<std::int64_t>> views(const problem& p, const std::vector<std::int64_t>& all,
                                                    std::int64_t t) {
  if (p.order == traversal::global) return {all};
  std::vector<std::vector<std::int64_t>> to;
  const std::size_t axes = p.order == traversal::axial ? p.extents.size() : 1;
  for (std::size_t axis = 0; axis < axes; ++axis) {
    std::vector<std::int64_t> before, after;
    for (const std::int64_t s : all) {
      if (p.order == traversal::axial && !on_one_line(p, axis, s, t)) continue;
      if (s <= t) before.push_back(s);
      if (s >= t) after.insert(after.begin(), s);
    }
    to.push_back(before);
    if (p.order != traversal::causal) to.push_back(after);
  }
  return to;
}

}  // namespace quadratic_detail

inline quadratic_answer quadratic_form(const problem& p) {
  p.check();
  quadratic_answer answer;
  answer.o.assign(p.v.size(), 0);
  for (std::int64_t sequence = 0; sequence < p.sequences(); ++sequence)
    for (std::int64_t h = 0; h < p.heads; ++h) {
      const span in = p.sequence(sequence);
      std::vector<std::int64_t> all;
      for (std::int64_t t = in.first; t < in.last; ++t)
        if (p.on(in.batch, t)) all.push_back(t);

      for (const std::int64_t t : all)
        for (const auto& seen : quadratic_detail::views(p, all, t)) quadratic_detail::read(p, in, h, t, seen, answer.o);

      if (p.order == traversal::bidirectional || p.order == traversal::axial) continue;
      const quadratic_detail::weights w = quadratic_detail::weigh(p, in, h, all);
      answer.z.insert(answer.z.end(), w.z.begin(), w.z.end());
      for (std::int64_t f = 0; f < p.features(); ++f)
        for (std::int64_t j = 0; j < p.values; ++j) {
          double sum = quadratic_detail::state_share(p, in, h, w, f, j);
          for (std::size_t s = 0; s < all.size(); ++s)
            for (std::int64_t i = 0; i < p.keys; ++i)
              sum += quadratic_detail::encoding_entry(p, h, all[s], f, i) * w.token[s][static_cast<std::size_t>(i)] *
                     p.v_at(in.batch, all[s], h, j);
          answer.s.push_back(sum);
        }
    }
  return answer;
}

}  // namespace oracle
