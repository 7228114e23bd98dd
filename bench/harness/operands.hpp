// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "baseline/token_by_token.hpp"
#include "harness/row.hpp"

#include <lightnet/backend/cpu/execution.hpp>
#include <lightnet/core/random.hpp>
#include <lightnet/core/tensor.hpp>

#include <algorithm>
#include <cmath>
#include <memory>

namespace bench {

namespace ln = lightnet;

/// Log decays: how many numbers a token and head have, and what makes them from standard normal ones.
struct decay_source {
  enum class share { head, token, channel };
  share each = share::head;
  float (*of)(float) = nullptr;  // null where the recurrence has none, or defaults

  bool given() const { return of != nullptr; }
  std::int64_t channels(std::int64_t width) const { return each == share::channel ? width : 1; }
  /// Numbers of a token and head that have to be read.
  double read(std::int64_t width) const {
    return given() && each != share::head ? static_cast<double>(channels(width)) : 0;
  }
};

inline float log_sigmoid(float x) { return -std::log1p(std::exp(-x)); }
/// What the layers of GLA, HGRN2 and Mamba-2 make where a projection gives standard normal numbers.
inline float gla_decay(float x) { return log_sigmoid(x) / 16; }
inline float hgrn2_decay(float x) { return log_sigmoid(x); }
inline float mamba2_decay(float x) { return -0.5F * std::log1p(std::exp(x)); }

/// Standard normal numbers. After the first million they come again: drawing takes longer than what is to be measured.
template <class T>
void fill(ln::tensor<ln::rank<4>, T>& to, std::uint64_t seed, float (*of)(float) = nullptr) {
  const ln::random_stream random{seed};
  const std::int64_t drawn = std::min<std::int64_t>(to.size(), 1'000'003);
  for (std::int64_t i = 0; i < drawn; ++i) {
    const auto x = static_cast<float>(random.normal(static_cast<std::uint64_t>(i)));
    to.data()[i] = static_cast<T>(of ? of(x) : x);
  }
  for (std::int64_t i = drawn; i < to.size(); ++i) to.data()[i] = to.data()[i - drawn];
}

template <class T>
ln::tensor<ln::rank<4>, T> normal_tensor(const problem& p, std::uint64_t seed) {
  ln::tensor<ln::rank<4>, T> made{{{1, p.tokens, p.heads, p.width}}};  // [B, N, H, d]
  fill(made, seed);
  return made;
}

/// Some tokens of the sequences that the plain implementation works on, of another head at each call, so that they are
/// no better off in the caches than those of the row.
class plain_operands {
 public:
  static constexpr std::int64_t tokens = 512;

  plain_operands(plain::function function, std::int64_t width, const decay_source& decays);
  void operator()();

 private:
  plain::function function_;
  problem sizes_;
  std::int64_t decay_channels_, head_ = 0;
  ln::tensor<ln::rank<4>, float> q_, k_, v_, log_decay_, do_, o_, dq_, dk_, dv_, dlog_decay_;
  ln::tensor<ln::rank<2>, float> cosine_, sine_;
};

/// Adds the plain implementation to a task.
void add_plain(task& to, plain::function function, std::int64_t width, const decay_source& decays = {});

}  // namespace bench
