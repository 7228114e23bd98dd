// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/decimal.hpp>
#include <lightnet/core/error.hpp>
#include <lightnet/core/random.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

LIGHTNET_BEGIN_NAMESPACE

/// How a token is chosen of those that may come next.
struct sampling_options {
  double temperature = 1;  ///< divides the logits; 0 takes the largest, of equal ones the first
  std::int64_t top_k = 0;  ///< so many of the most likely tokens may come; 0: all
  double top_p = 1;        ///< and of these the most likely that have this share together (arXiv 1904.09751)

  /// Throws value_error for numbers that choose nothing.
  void check() const {
    const auto need = [](bool good, const char* argument, const char* expected, const std::string& came) {
      if (!good) throw value_error("sampling", argument, expected, came);
    };
    need(std::isfinite(temperature) && temperature >= 0, "temperature", "zero or more", detail::decimal(temperature));
    need(top_k >= 0, "top_k", "zero or more", std::to_string(top_k));
    need(top_p > 0 && top_p <= 1, "top_p", "more than zero, at most one", detail::decimal(top_p));
  }
};

/// Chooses tokens. What it chooses is a function of the options, the seed, the sequence, the place in it and the logits
/// alone: not of other sequences of the batch, and not of how often it was asked.
class sampler {
 public:
  /// Throws value_error for options that choose nothing.
  sampler(const sampling_options& options, std::uint64_t seed) : options_{options}, seed_{seed} { options.check(); }

  /// The token at a place of a sequence, from the logits of all tokens, on the host. Those of -infinity and NaN never come.
  /// Throws value_error where there are no others, or one is +infinity.
  template <class T>
  std::int32_t operator()(std::span<const T> logits, std::uint32_t sequence, std::uint64_t place) {
    candidates_.clear();
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const auto logit = static_cast<double>(logits[i]);
      if (logit > -std::numeric_limits<double>::infinity())
        candidates_.push_back({logit, static_cast<std::int32_t>(i)});
    }
    if (candidates_.empty()) fail("none");
    const candidate best = *std::min_element(candidates_.begin(), candidates_.end(), comes_first);
    if (std::isinf(best.weight)) fail("+infinity for token " + std::to_string(best.token));
    if (options_.temperature == 0) return best.token;
    keep_top_k();
    for (candidate& each : candidates_) each.weight = std::exp((each.weight - best.weight) / options_.temperature);
    keep_top_p();
    return drawn(stream_for(stream_purpose::sampling, seed_, sequence).uniform(place));
  }

 private:
  struct candidate {
    double weight;  // the logit, then its power
    std::int32_t token;
  };
  static bool comes_first(const candidate& a, const candidate& b) noexcept {
    return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
  }

  [[noreturn]] static void fail(const std::string& came) {
    throw value_error("sampling", "logits", "a finite number or several, and no infinity", came);
  }

  /// Leaves the top_k, the likeliest first.
  void keep_top_k() {
    const auto most = static_cast<std::uint64_t>(options_.top_k);
    if (most == 0 || most >= candidates_.size()) return;
    const auto end = candidates_.begin() + static_cast<std::ptrdiff_t>(most);
    std::partial_sort(candidates_.begin(), end, candidates_.end(), comes_first);
    candidates_.erase(end, candidates_.end());
  }

  /// Leaves as many as have top_p of the weights together, the likeliest first: a heap gives one after the other, and those
  /// that are left in it are never sorted.
  void keep_top_p() {
    if (options_.top_p == 1) return;
    const auto comes_later = [](const candidate& a, const candidate& b) { return comes_first(b, a); };
    const double enough = options_.top_p * total();
    double kept = 0;
    auto rest = candidates_.end();
    std::make_heap(candidates_.begin(), rest, comes_later);
    while (rest != candidates_.begin() && kept < enough) {
      std::pop_heap(candidates_.begin(), rest--, comes_later);
      kept += rest->weight;
    }
    candidates_.erase(candidates_.begin(), rest);
    std::reverse(candidates_.begin(), candidates_.end());
  }

  double total() const {
    double sum = 0;
    for (const candidate& each : candidates_) sum += each.weight;
    return sum;
  }

  /// The token whose share of all weights has the number of (0, 1).
  std::int32_t drawn(double uniform) const {
    const double all = total();
    double sum = 0;
    for (const candidate& each : candidates_) {
      sum += each.weight;
      if (uniform * all < sum) return each.token;
    }
    return candidates_.back().token;  // what rounding left over
  }

  sampling_options options_;
  std::uint64_t seed_;
  std::vector<candidate> candidates_;
};

LIGHTNET_END_NAMESPACE
