// SPDX-License-Identifier: Apache-2.0
// Random questions for a case of the list, and questions made of others: a part, one head.
#pragma once

#include <lightnet/recurrence/constant_decay.hpp>

#include <cstddef>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "question.hpp"

namespace cases {

// Logits that break what is not careful: in every order of three they cut rows, empty channels and meet -inf.
inline const numbers& extreme_logits() {
  static const numbers some = {0, 1, -1, 30, -30, 88, -88, 200, -200, 1e4, -1e4, -inf};
  return some;
}
inline const numbers& extreme_log_decays() {
  static const numbers some = {0, -1e-9, -0.01, -1.7, -30, -88, -200, -1e4, -inf};
  return some;
}

struct generator {
  std::mt19937_64 engine;
  explicit generator(std::uint64_t seed) : engine(seed) {}
  // The same numbers for a case whatever other cases there are: mixed as FNV-1a does.
  generator(std::uint64_t seed, const operation& op) : engine(seed) {
    std::uint64_t hash = 0xCBF29CE484222325;
    for (const char letter : op.name) hash = (hash ^ static_cast<unsigned char>(letter)) * 0x100000001B3;
    engine.seed(hash ^ seed);
  }

  double uniform(double low, double high) {
    return low + (high - low) * (static_cast<double>(engine() >> 11) * 0x1p-53);
  }
  std::int64_t integer(std::int64_t count) {
    return static_cast<std::int64_t>(engine() % static_cast<std::uint64_t>(count));
  }
  bool coin() { return integer(2) == 1; }
  template <class X>
  const X& one_of(const std::vector<X>& from) {
    return from[static_cast<std::size_t>(integer(static_cast<std::int64_t>(from.size())))];
  }
  numbers many(std::int64_t count, double range) {
    numbers x;
    for (std::int64_t n = 0; n < count; ++n) x.push_back(uniform(-range, range));
    return x;
  }
  numbers choices(std::int64_t count, const numbers& from) {
    numbers x;
    for (std::int64_t n = 0; n < count; ++n) x.push_back(one_of(from));
    return x;
  }
};

// The angles of the oracles. They are computed in double, theta first: at position 200 an angle has no more digits.
inline void give_angles(question& x) {
  problem& p = x.p;
  p.angles.clear();
  if (p.position == oracle::encoding::none) return;
  std::vector<long double> theta(x.theta.begin(), x.theta.end());
  if (theta.empty()) theta = oracle::lrpe_theta(p.position, p.keys, x.where.axes());
  for (long double& rate : theta) rate = static_cast<double>(rate);
  for (std::int64_t s = 0; s < (p.cumulative_lengths.empty() ? 1 : p.sequences()); ++s) {
    oracle::grid where = x.where;
    if (!p.cumulative_lengths.empty()) where.extents = {p.sequence(s).last - p.sequence(s).first};
    for (const long double angle : oracle::lrpe_angles(where, p.position, p.heads, p.keys, theta))
      p.angles.push_back(static_cast<double>(angle));
  }
}

struct options {
  bool masked = false, with_state = false, extreme = false, packed = false;
  double logits = 3;                                        // their range
  double log_decays = 0;                                    // the smallest of mild ones; 0: of all sorts
  std::int64_t keys = 0, values = 0, batch = 0, heads = 0;  // 0: any
  std::vector<std::int64_t> grid = {};                      // empty: any
  std::int64_t prefix = -1;                                 // -1: any
};

namespace detail {

inline const std::vector<std::vector<std::int64_t>>& grids(int dims) {
  static const std::vector<std::vector<std::int64_t>> all[] = {
      {{1}, {2}, {19}, {67}, {131}, {213}},
      {{1, 1}, {3, 5}, {13, 7}, {1, 17}, {9, 1}},
      {{1, 1, 1}, {2, 3, 5}, {5, 1, 3}},
      {{1, 1, 1, 1}, {2, 3, 1, 5}, {3, 2, 5, 2}},
  };
  return all[dims - 1];
}

// log a, or a of either sign.
inline double random_decay(const operation& op, generator& random, double log_decay) {
  const double kept = op.rounded(op.like.with_sign ? std::exp(log_decay) : log_decay);
  return op.like.with_sign && random.coin() ? -kept : kept;
}

inline void give_logits(question& x, const operation& op, generator& random, const options& want) {
  problem& p = x.p;
  const std::int64_t count = p.batch * p.tokens * logit_width(p);
  if (p.has_logits()) {
    p.logits = want.extreme ? random.choices(count, extreme_logits()) : random.many(count, want.logits);
    for (double& g : p.logits) g = op.rounded(g);
  } else if (p.kind == oracle::recurrence::constant_decay) {
    const std::int64_t rates = random.integer(4);
    x.default_log_decay = rates == 0 && want.log_decays == 0;
    for (std::int64_t h = 0; h < p.heads; ++h) {
      const double log_decay = want.log_decays < 0   ? random.uniform(want.log_decays, 0)
                               : x.default_log_decay ? ln::constant_decay::tnl(h, p.heads)
                               : rates == 1          ? ln::constant_decay::retnet(h, p.heads)
                                                     : random.one_of(extreme_log_decays());
      const double kept = p.with_sign ? std::exp(log_decay) : log_decay;
      p.log_decay.push_back(op.rounded_sum(p.with_sign && !x.default_log_decay && random.coin() ? -kept : kept));
    }
  } else if (p.decays()) {
    const std::int64_t resets = want.extreme ? 2 : 3 + random.integer(20);  // one in so many is strong
    const double mild = want.log_decays < 0 ? want.log_decays : random.one_of<double>({-0.01, -0.5, -3});
    for (std::int64_t n = 0; n < count; ++n) {
      const bool strong = want.log_decays == 0 && random.integer(resets) == 0;
      p.log_decay.push_back(
          random_decay(op, random, strong ? random.one_of(extreme_log_decays()) : random.uniform(mild, 0)));
    }
  }
}

}  // namespace detail

inline question random_question(const operation& op, generator& random, const options& want = {}) {
  question x;
  problem& p = x.p;
  p = op.like;
  x.memory = random.one_of<layout>({layout::dense, layout::gapped, layout::tangled});
  x.mergeable = random.coin();
  x.flattened = op.dims > 1 && random.coin();
  x.chunk = random.one_of<std::int64_t>({0, 1, 2, 5, 16, 37, 64, 128});
  x.where.extents = want.grid.empty() ? random.one_of(detail::grids(op.dims)) : want.grid;
  const bool plain_grid = want.packed || p.order == oracle::traversal::axial;
  x.where.prefix = plain_grid                    ? 0
                   : want.prefix >= 0            ? want.prefix
                   : x.flattened || op.dims == 1 ? random.integer(4)
                                                 : 0;
  if (x.where.prefix > 0 && op.dims > 1) x.flattened = true;
  for (int axis = 0; axis < op.dims; ++axis) x.where.offsets.push_back(random.integer(1000));
  p.tokens = x.where.tokens();
  p.extents = x.where.extents;
  p.batch = want.packed ? 1 : want.batch ? want.batch : 1 + random.integer(3);
  p.heads = want.heads ? want.heads : 1 + random.integer(3);
  p.keys = want.keys ? want.keys : random.one_of<std::int64_t>({1, 3, 7, 11, 17, 33, 40});
  while (p.position == oracle::encoding::cosine ? (op.dims - 1) * ((p.keys + op.dims - 1) / op.dims) >= p.keys
                                                : p.rotates() && p.keys < 2 * op.dims) {
    ++p.keys;
  }
  p.values = want.values ? want.values : random.one_of<std::int64_t>({1, 2, 5, 9, 13, 39});
  if (want.packed) {
    p.cumulative_lengths = {0, p.tokens};
    for (std::int64_t cuts = random.integer(4); cuts > 0; --cuts)
      p.cumulative_lengths.push_back(random.integer(p.tokens + 1));
    if (random.coin()) p.cumulative_lengths.push_back(random.one_of(p.cumulative_lengths));  // an empty sequence
    std::sort(p.cumulative_lengths.begin(), p.cumulative_lengths.end());
  }
  const auto round = [&](numbers values) {
    for (double& value : values) value = op.rounded(value);
    return values;
  };
  const auto round_sums = [&](numbers values) {
    for (double& value : values) value = op.rounded_sum(value);
    return values;
  };
  const std::int64_t rows = p.batch * p.tokens * p.heads;
  p.q = round(random.many(rows * p.keys, 2));
  p.v = round(random.many(rows * p.values, 2));
  if (op.tied()) {
    p.k =
        round(want.extreme ? random.choices(rows * p.keys, extreme_logits()) : random.many(rows * p.keys, want.logits));
  } else if (p.kind != oracle::recurrence::hgrn2) {
    p.k = round(random.many(rows * p.keys, 2));
  }
  detail::give_logits(x, op, random, want);
  if (want.masked) p.mask = random.choices(p.batch * p.tokens, {0, 1, 1});
  if (op.sink) p.z0.assign(static_cast<std::size_t>(p.sequences() * p.heads * p.weights()), 0);
  if (want.with_state && op.stateful) {
    x.with_state = true;
    p.s0 = round_sums(random.many(p.sequences() * p.heads * p.features() * p.values, 2));
    if (op.additive()) {
      const std::int64_t count = p.sequences() * p.heads * p.weights();
      p.z0 = want.extreme ? random.choices(count, extreme_logits()) : round_sums(random.many(count, want.logits));
    }
  }
  if (p.position != oracle::encoding::none) {
    const std::int64_t share = oracle::lrpe_share(p.position, p.keys, op.dims);
    const std::int64_t kind = random.integer(3);
    if (kind > 0) x.theta = round_sums(random.many(kind == 1 ? share : share * p.heads, 1));
  }
  give_angles(x);
  return x;
}

inline incoming random_incoming(const operation& op, const question& x, generator& random) {
  const problem& p = x.p;
  incoming to{random.many(static_cast<std::int64_t>(p.v.size()), 1), {}, {}};
  if (!op.stateful) return to;
  to.s = random.many(p.sequences() * p.heads * p.features() * p.values, 1);
  if (op.framed) to.z = random.many(p.sequences() * p.heads * p.weights(), 1);
  return to;
}

// The arrays of a question that have an entry a token, and how wide it is: visit(array, width).
template <class Visit>
void each_token_array(problem& p, const Visit& visit) {
  visit(p.q, p.heads * p.keys);
  if (!p.k.empty()) visit(p.k, p.heads * p.keys);
  visit(p.v, p.heads * p.values);
  if (logit_width(p) > 0) visit(logits_of(p), logit_width(p));
  if (!p.mask.empty()) visit(p.mask, std::int64_t{1});
}

// Tokens [first, last) along the first axis of a question without prefix; where packed, of its only batch entry.
inline question part_of(const question& x, std::int64_t first, std::int64_t last) {
  question part = x;
  problem& p = part.p;
  const std::int64_t slice = x.where.stride(0);
  part.where.extents[0] = last - first;
  part.where.offsets[0] += first;
  p.extents = part.where.extents;
  each_token_array(p, [&](numbers& values, std::int64_t width) {
    const numbers whole = std::move(values);
    values.clear();
    for (std::int64_t b = 0; b < p.batch; ++b) {
      const auto at = whole.begin() + static_cast<std::ptrdiff_t>((b * x.p.tokens + first * slice) * width);
      values.insert(values.end(), at, at + static_cast<std::ptrdiff_t>((last - first) * slice * width));
    }
  });
  p.tokens = (last - first) * slice;
  return part;
}

// The numbers of one sequence and head in an array [B, outer, H, width].
inline numbers picked(const numbers& all, const problem& p, std::int64_t b, std::int64_t h, std::int64_t outer,
                      std::int64_t width) {
  numbers some;
  for (std::int64_t n = 0; n < outer && !all.empty(); ++n) {
    const auto at = all.begin() + static_cast<std::ptrdiff_t>(((b * outer + n) * p.heads + h) * width);
    some.insert(some.end(), at, at + static_cast<std::ptrdiff_t>(width));
  }
  return some;
}

// One head of one sequence of a question.
inline question alone(const question& x, std::int64_t b, std::int64_t h) {
  question one = x;
  problem& p = one.p;
  const problem& all = x.p;
  p.batch = 1;
  p.heads = 1;
  p.q = picked(all.q, all, b, h, p.tokens, p.keys);
  p.k = picked(all.k, all, b, h, p.tokens, p.keys);
  p.v = picked(all.v, all, b, h, p.tokens, p.values);
  p.z0 = picked(all.z0, all, b, h, 1, p.weights());
  p.s0 = picked(all.s0, all, b, h, 1, p.features() * p.values);
  if (logit_width(p) > 0) logits_of(p) = picked(logits_of(all), all, b, h, p.tokens, p.weights());
  if (!p.mask.empty()) p.mask.assign(all.mask.begin() + b * p.tokens, all.mask.begin() + (b + 1) * p.tokens);
  if (p.kind == oracle::recurrence::constant_decay) p.log_decay = {all.log_decay[static_cast<std::size_t>(h)]};
  one.default_log_decay = false;  // its default depends on the number of heads
  if (!x.theta.empty()) {
    const std::int64_t share = oracle::lrpe_share(p.position, p.keys, x.where.axes());
    const std::int64_t row = static_cast<std::int64_t>(x.theta.size()) == share ? 0 : h;
    one.theta.assign(x.theta.begin() + row * share, x.theta.begin() + (row + 1) * share);
  }
  return one;
}

// One sequence of a packed question.
inline question unpacked(const question& x, std::int64_t s) {
  const oracle::span in = x.p.sequence(s);
  question one = part_of(x, in.first, in.last);
  problem& p = one.p;
  one.where.offsets = x.where.offsets;  // positions begin anew
  p.cumulative_lengths.clear();
  const auto pick = [&](numbers& values, std::int64_t width) {
    if (values.empty()) return;
    const auto at = values.begin() + s * width;
    values = numbers(at, at + width);
  };
  pick(p.z0, p.heads * p.weights());
  pick(p.s0, p.heads * p.features() * p.values);
  give_angles(one);
  return one;
}

}  // namespace cases
