// SPDX-License-Identifier: Apache-2.0
// The question that is put to the two oracles: sizes, inputs and choices. Nothing here computes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace oracle {

// A sink is an additive recurrence that starts from z0 = 0.
enum class recurrence {
  additive,        // the keys are the logits
  additive_gated,  // logits apart, the key weighed like the value
  additive_plain,  // logits apart, the key enters plain
  no_decay,
  constant_decay,  // one number a head
  scalar_decay,    // one a token and head
  vector_decay,    // one a token and channel
  hgrn2            // the same, and the key is 1 - a
};
enum class traversal { causal, global, bidirectional, axial };
enum class encoding { none, cosine, rotate_halves, rotate_neighbours };

// Tokens [first, last) of one batch entry, which are a sequence.
struct span {
  std::int64_t sequence, batch, first, last;
};

// Every array is row-major. Numbers are finite, except that logits, z0 and log decays may be -inf; what lies under the
// mask may be anything.
struct problem {
  recurrence kind = recurrence::additive;
  traversal order = traversal::causal;
  encoding position = encoding::none;
  bool per_head = false;   // additive_gated and additive_plain: one logit for all channels of a head
  bool with_sign = false;  // decays: log_decay holds a in [-1, 1], not log a

  std::int64_t batch = 1;   // B
  std::int64_t tokens = 1;  // N
  std::int64_t heads = 1;   // H
  std::int64_t keys = 1;    // d
  std::int64_t values = 1;  // e

  std::vector<double> q = {};                         // [B, N, H, d]
  std::vector<double> k = {};                         // [B, N, H, d], the logits of `additive`; empty for hgrn2
  std::vector<double> v = {};                         // [B, N, H, e]
  std::vector<double> mask = {};                      // [B, N], 1 keeps a token and 0 deletes it; empty: all are kept
  std::vector<double> logits = {};                    // [B, N, H, w]: g of additive_gated and additive_plain
  std::vector<double> log_decay = {};                 // [H], or [B, N, H, w]
  std::vector<double> z0 = {};                        // [S, H, w], additive only; empty: no initial state
  std::vector<double> s0 = {};                        // [S, H, d', e]; empty: zero
  std::vector<long double> angles = {};               // [N, H, angle_count()], see position.hpp; empty without encoding
  std::vector<std::int64_t> extents = {};             // n_1..n_M, for axial
  std::vector<std::int64_t> cumulative_lengths = {};  // [S + 1], of a batch of 1; empty: S = B, all of N tokens

  bool additive() const {
    return kind == recurrence::additive || kind == recurrence::additive_gated || kind == recurrence::additive_plain;
  }
  bool has_logits() const { return kind == recurrence::additive_gated || kind == recurrence::additive_plain; }
  bool decays() const { return !additive() && kind != recurrence::no_decay; }
  bool rotates() const { return position == encoding::rotate_halves || position == encoding::rotate_neighbours; }
  bool commutes() const {
    return kind == recurrence::additive || kind == recurrence::additive_gated || kind == recurrence::no_decay;
  }

  // w, the weights of a token and head: the channels have their own, or share one.
  std::int64_t weights() const {
    const bool own = kind == recurrence::additive || kind == recurrence::vector_decay || kind == recurrence::hgrn2 ||
                     (has_logits() && !per_head);
    return own ? keys : 1;
  }
  // d', the rows of the state.
  std::int64_t features() const { return position == encoding::cosine ? 2 * keys : keys; }
  // How many angles a token has in a head: one for each channel, or for each pair of channels.
  std::int64_t angle_count() const {
    return position == encoding::none ? 0 : position == encoding::cosine ? keys : keys / 2;
  }

  // S, each with a state of its own.
  std::int64_t sequences() const {
    return cumulative_lengths.empty() ? batch : static_cast<std::int64_t>(cumulative_lengths.size()) - 1;
  }
  span sequence(std::int64_t s) const {
    if (cumulative_lengths.empty()) return {s, s, 0, tokens};
    return {s, 0, cumulative_lengths[static_cast<std::size_t>(s)], cumulative_lengths[static_cast<std::size_t>(s + 1)]};
  }

  bool on(std::int64_t b, std::int64_t t) const { return mask.empty() || mask[at(b, tokens, t)] != 0; }
  double q_at(std::int64_t b, std::int64_t t, std::int64_t h, std::int64_t i) const {
    return q[at(b, tokens, t, heads, h, keys, i)];
  }
  double k_at(std::int64_t b, std::int64_t t, std::int64_t h, std::int64_t i) const {
    return k[at(b, tokens, t, heads, h, keys, i)];
  }
  double v_at(std::int64_t b, std::int64_t t, std::int64_t h, std::int64_t j) const {
    return v[at(b, tokens, t, heads, h, values, j)];
  }
  // The logit or decay of weight n of a token; weight 0 where all channels share it.
  double logit_at(std::int64_t b, std::int64_t t, std::int64_t h, std::int64_t n) const {
    if (kind == recurrence::additive) return k_at(b, t, h, n);
    if (kind == recurrence::no_decay) return with_sign ? 1 : 0;
    if (kind == recurrence::constant_decay) return log_decay[static_cast<std::size_t>(h)];
    return (has_logits() ? logits : log_decay)[at(b, tokens, t, heads, h, weights(), n)];
  }
  double z0_at(std::int64_t s, std::int64_t h, std::int64_t n) const { return z0[at(s, heads, h, weights(), n)]; }
  double s0_at(std::int64_t s, std::int64_t h, std::int64_t f, std::int64_t j) const {
    return s0.empty() ? 0 : s0[at(s, heads, h, features(), f, values, j)];
  }
  long double angle_at(std::int64_t t, std::int64_t h, std::int64_t a) const {
    return angles[at(t, heads, h, angle_count(), a)];
  }

  // at(b, N, t, H, h): the place of element [b, t, h] in an array [B, N, H].
  template <class... Rest>
  static std::size_t at(std::int64_t first, Rest... rest) {
    const std::int64_t pairs[] = {static_cast<std::int64_t>(rest)...};
    std::int64_t place = first;
    for (std::size_t n = 0; n < sizeof...(rest); n += 2) place = place * pairs[n] + pairs[n + 1];
    return static_cast<std::size_t>(place);
  }

  // Throws std::invalid_argument where a size is wrong or the question has no meaning.
  void check() const {
    const std::int64_t rows = batch * tokens * heads;
    const bool one_way = order == traversal::causal || order == traversal::global;
    require(batch > 0 && tokens > 0 && heads > 0 && keys > 0 && values > 0, "sizes are positive");
    require_size(q.size(), rows * keys, "q");
    require_size(k.size(), kind == recurrence::hgrn2 ? 0 : rows * keys, "k");
    require_size(v.size(), rows * values, "v");
    require_size(angles.size(), tokens * heads * angle_count(), "angles");
    require_size(logits.size(), has_logits() ? rows * weights() : 0, "logits");
    require_size(log_decay.size(),
                 !decays()                            ? 0
                 : kind == recurrence::constant_decay ? heads
                                                      : rows * weights(),
                 "log_decay");
    if (!mask.empty()) require_size(mask.size(), batch * tokens, "mask");
    if (!z0.empty()) require_size(z0.size(), sequences() * heads * weights(), "z0");
    if (!s0.empty()) require_size(s0.size(), sequences() * heads * features() * values, "s0");
    require(decays() || !with_sign, "only a decay has a sign");
    require(has_logits() || !per_head, "only logits apart from the keys may be one a head");
    require(additive() || z0.empty(), "only an additive recurrence has a normaliser z0");
    require(!additive() || s0.empty() || !z0.empty(), "an additive state s0 needs its z0");
    require(commutes() || order != traversal::global, "what does not commute has no global order");
    require(one_way || s0.empty(), "bidirectional and axial take no state");  // but a sink is z0 without s0
    require(!(rotates() && weights() > 1) || order == traversal::global, "rotated weights need the global order");
    require(!(rotates() && weights() > 1) || s0.empty(), "a rotated state cannot be rescaled by channel");
    check_extents();
    check_lengths();
  }

 private:
  void check_extents() const {
    if (order != traversal::axial) return;
    std::int64_t product = 1;
    for (const std::int64_t extent : extents) product *= extent;
    require(product == tokens && !extents.empty(), "axial needs the extents of all tokens");
    require(cumulative_lengths.empty() || extents.size() == 1, "packed sequences have one axis");
  }
  void check_lengths() const {
    if (cumulative_lengths.empty()) return;
    require(batch == 1, "packed sequences are a batch of 1");
    require(cumulative_lengths.front() == 0 && cumulative_lengths.back() == tokens, "packed sequences are all tokens");
    for (std::size_t s = 1; s < cumulative_lengths.size(); ++s)
      require(cumulative_lengths[s - 1] <= cumulative_lengths[s], "cumulative lengths do not fall");
  }
  static void require(bool condition, const std::string& rule) {
    if (!condition) throw std::invalid_argument("oracle: " + rule);
  }
  static void require_size(std::size_t size, std::int64_t expected, const std::string& name) {
    require(static_cast<std::int64_t>(size) == expected, name + " has the wrong size");
  }
};

}  // namespace oracle
