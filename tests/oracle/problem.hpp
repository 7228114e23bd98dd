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
enum class recurrence { additive, no_decay, constant_decay };
enum class traversal { causal, global, bidirectional };
enum class encoding { none, cosine, rotate_halves, rotate_neighbours };

// Every array is row-major. Numbers are finite, except that logits, z0 and log_decay may be -inf; what lies under the
// mask may be anything.
struct problem {
  recurrence kind = recurrence::additive;
  traversal order = traversal::causal;
  encoding position = encoding::none;

  std::int64_t batch = 1;   // B
  std::int64_t tokens = 1;  // N
  std::int64_t heads = 1;   // H
  std::int64_t keys = 1;    // d
  std::int64_t values = 1;  // e

  std::vector<double> q = {};            // [B, N, H, d]
  std::vector<double> k = {};            // [B, N, H, d], the logits of an additive recurrence
  std::vector<double> v = {};            // [B, N, H, e]
  std::vector<double> mask = {};         // [B, N], 1 keeps a token and 0 deletes it; empty: all are kept
  std::vector<double> log_decay = {};    // [H], for constant_decay
  std::vector<double> z0 = {};           // [B, H, d], additive only; empty: no initial state
  std::vector<double> s0 = {};           // [B, H, d', e]; empty: zero
  std::vector<long double> angles = {};  // [N, H, angle_count()], as position.hpp makes them; empty without an encoding

  // d', the rows of the state.
  std::int64_t features() const { return position == encoding::cosine ? 2 * keys : keys; }
  // How many angles a token has in a head: one for each channel, or for each pair of channels.
  std::int64_t angle_count() const {
    return position == encoding::none ? 0 : position == encoding::cosine ? keys : keys / 2;
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
  double z0_at(std::int64_t b, std::int64_t h, std::int64_t i) const { return z0[at(b, heads, h, keys, i)]; }
  double s0_at(std::int64_t b, std::int64_t h, std::int64_t f, std::int64_t j) const {
    return s0.empty() ? 0 : s0[at(b, heads, h, features(), f, values, j)];
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
    const bool additive = kind == recurrence::additive;
    const bool rotates = position == encoding::rotate_halves || position == encoding::rotate_neighbours;
    require(batch > 0 && tokens > 0 && heads > 0 && keys > 0 && values > 0, "sizes are positive");
    require_size(q.size(), batch * tokens * heads * keys, "q");
    require_size(k.size(), batch * tokens * heads * keys, "k");
    require_size(v.size(), batch * tokens * heads * values, "v");
    require_size(angles.size(), tokens * heads * angle_count(), "angles");
    require_size(log_decay.size(), kind == recurrence::constant_decay ? heads : 0, "log_decay");
    if (!mask.empty()) require_size(mask.size(), batch * tokens, "mask");
    if (!z0.empty()) require_size(z0.size(), batch * heads * keys, "z0");
    if (!s0.empty()) require_size(s0.size(), batch * heads * features() * values, "s0");
    require(additive || z0.empty(), "only an additive recurrence has a normaliser z0");
    require(!additive || s0.empty() || !z0.empty(), "an additive state s0 needs its z0");
    require(kind != recurrence::constant_decay || order != traversal::global, "a decay has no global order");
    require(order != traversal::bidirectional || (z0.empty() && s0.empty()), "bidirectional takes no state");
    require(!(additive && rotates) || order == traversal::global, "rotated additive keys need the global order");
    require(!(additive && rotates) || z0.empty(), "a rotated additive state cannot be rescaled by channel");
  }

 private:
  static void require(bool condition, const std::string& rule) {
    if (!condition) throw std::invalid_argument("oracle: " + rule);
  }
  static void require_size(std::size_t size, std::int64_t expected, const std::string& name) {
    require(static_cast<std::int64_t>(size) == expected, name + " has the wrong size");
  }
};

}  // namespace oracle
