// SPDX-License-Identifier: Apache-2.0
// Oracle 2: the quadratic form in double. Every token weighs every token that it sees; nothing is carried along.
// It shares no formula with the recurrence: softmax over what is seen, powers of the decay, and in a score the angles
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
  std::vector<double> z;  // [B, H, d]: final normaliser, additive only; no state for bidirectional
  std::vector<double> s;  // [B, H, d', e]: final state
};

namespace quadratic_detail {

// What the tokens of a list (oldest first, the reader last) and the initial state weigh, channel by channel.
struct weights {
  std::vector<std::vector<double>> token;  // [seen][d], the key of a decay included
  std::vector<double> state;               // [d]
  std::vector<double> z;                   // [d], log of the normaliser, additive only
};

inline double decay_power(double log_decay, std::size_t steps) {
  return steps == 0 ? 1 : std::exp(log_decay * static_cast<double>(steps));
}

inline weights weigh(const problem& p, std::int64_t b, std::int64_t h, const std::vector<std::int64_t>& seen) {
  const std::size_t n = seen.size();
  const auto d = static_cast<std::size_t>(p.keys);
  weights w{std::vector<std::vector<double>>(n, std::vector<double>(d)), std::vector<double>(d), {}};
  for (std::size_t i = 0; i < d; ++i) {
    const auto channel = static_cast<std::int64_t>(i);
    if (p.kind != recurrence::additive) {
      const double log_decay = p.kind == recurrence::no_decay ? 0 : p.log_decay[static_cast<std::size_t>(h)];
      for (std::size_t s = 0; s < n; ++s)
        w.token[s][i] = decay_power(log_decay, n - 1 - s) * p.k_at(b, seen[s], h, channel);
      w.state[i] = decay_power(log_decay, n);
      continue;
    }
    // Softmax over the tokens seen, the initial state being one more of them.
    std::vector<double> logit;
    for (const std::int64_t s : seen) logit.push_back(p.k_at(b, s, h, channel));
    logit.push_back(p.z0.empty() ? -std::numeric_limits<double>::infinity() : p.z0_at(b, h, channel));
    const double top = *std::max_element(logit.begin(), logit.end());
    double sum = 0;
    for (double& x : logit) {
      x = std::isinf(top) ? 0 : std::exp(x - top);
      sum += x;
    }
    for (std::size_t s = 0; s < n; ++s) w.token[s][i] = sum > 0 ? logit[s] / sum : 0;
    w.state[i] = sum > 0 ? logit[n] / sum : 0;
    w.z.push_back(top + std::log(sum));
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
inline double state_share(const problem& p, std::int64_t b, std::int64_t h, const weights& w, std::int64_t f,
                          std::int64_t j) {
  const double share = w.state[static_cast<std::size_t>(f % p.keys)];
  return share > 0 ? share * p.s0_at(b, h, f, j) : 0;
}

// o_t = sum_s score_ts v_s + (the initial state's share)
inline void read(const problem& p, std::int64_t b, std::int64_t h, std::int64_t t,
                 const std::vector<std::int64_t>& seen, std::vector<double>& o) {
  const weights w = weigh(p, b, h, seen);
  std::vector<double> scores;
  for (std::size_t s = 0; s < seen.size(); ++s) scores.push_back(score(p, b, h, t, seen[s], w.token[s]));
  for (std::int64_t j = 0; j < p.values; ++j) {
    double& out = o[problem::at(b, p.tokens, t, p.heads, h, p.values, j)];
    for (std::size_t s = 0; s < seen.size(); ++s) out += scores[s] * p.v_at(b, seen[s], h, j);
    for (std::int64_t f = 0; f < p.features() && !p.s0.empty(); ++f)
      for (std::int64_t i = 0; i < p.keys; ++i)
        out += encoding_entry(p, h, t, f, i) * p.q_at(b, t, h, i) * state_share(p, b, h, w, f, j);
  }
}

}  // namespace quadratic_detail

inline quadratic_answer quadratic_form(const problem& p) {
  p.check();
  quadratic_answer answer;
  answer.o.assign(p.v.size(), 0);
  for (std::int64_t b = 0; b < p.batch; ++b)
    for (std::int64_t h = 0; h < p.heads; ++h) {
      std::vector<std::int64_t> all;
      for (std::int64_t t = 0; t < p.tokens; ++t)
        if (p.on(b, t)) all.push_back(t);

      for (std::size_t n = 0; n < all.size(); ++n) {
        const auto here = all.begin() + static_cast<std::ptrdiff_t>(n);
        const std::vector<std::int64_t> until(all.begin(), here + 1);
        quadratic_detail::read(p, b, h, all[n], p.order == traversal::global ? all : until, answer.o);
        if (p.order != traversal::bidirectional) continue;
        std::vector<std::int64_t> from(here, all.end());
        std::reverse(from.begin(), from.end());
        quadratic_detail::read(p, b, h, all[n], from, answer.o);
      }

      if (p.order == traversal::bidirectional) continue;
      const quadratic_detail::weights w = quadratic_detail::weigh(p, b, h, all);
      answer.z.insert(answer.z.end(), w.z.begin(), w.z.end());
      for (std::int64_t f = 0; f < p.features(); ++f)
        for (std::int64_t j = 0; j < p.values; ++j) {
          double sum = quadratic_detail::state_share(p, b, h, w, f, j);
          for (std::size_t s = 0; s < all.size(); ++s)
            for (std::int64_t i = 0; i < p.keys; ++i)
              sum += quadratic_detail::encoding_entry(p, h, all[s], f, i) * w.token[s][static_cast<std::size_t>(i)] *
                     p.v_at(b, all[s], h, j);
          answer.s.push_back(sum);
        }
    }
  return answer;
}

}  // namespace oracle
