// SPDX-License-Identifier: Apache-2.0
// Positions in long double: MD-LRPE (angles, and what they do to a vector) and MD-TPE as a direct long convolution.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "problem.hpp"

namespace oracle {

// `prefix` tokens without a position, then n_1 x ... x n_M tokens in row-major order.
struct grid {
  std::vector<std::int64_t> extents = {};
  std::int64_t prefix = 0;
  std::vector<std::int64_t> offsets = {};  // one for each axis; empty: zero

  std::int64_t axes() const { return static_cast<std::int64_t>(extents.size()); }
  std::int64_t tokens() const { return prefix + stride(-1); }
  std::int64_t extent(std::int64_t axis) const { return extents[static_cast<std::size_t>(axis)]; }
  std::int64_t offset(std::int64_t axis) const { return offsets.empty() ? 0 : offsets[static_cast<std::size_t>(axis)]; }
  // How many tokens lie between two neighbours along an axis: the product of the later extents.
  std::int64_t stride(std::int64_t axis) const {
    std::int64_t product = 1;
    for (std::int64_t a = axis + 1; a < axes(); ++a) product *= extent(a);
    return product;
  }
  // Where a token that is not of the prefix lies on an axis, without the offset.
  std::int64_t coordinate(std::int64_t token, std::int64_t axis) const {
    return (token - prefix) / stride(axis) % extent(axis);
  }
};

// How many angles each axis has: ceil(d / M) of the d channels, or floor(floor(d / 2) / M) of the pairs.
inline std::int64_t lrpe_share(encoding position, std::int64_t keys, std::int64_t axes) {
  const bool cosine = position == encoding::cosine;
  const std::int64_t share = cosine ? (keys + axes - 1) / axes : keys / 2 / axes;
  if (cosine ? (axes - 1) * share >= keys : keys < 2 * axes)
    throw std::invalid_argument("oracle: too few channels for so many axes");
  return share;
}

// theta_i, i < share: base^(-2i/w) for cosine, base^(-i/p) for rotate. All axes use the same.
inline std::vector<long double> lrpe_theta(encoding position, std::int64_t keys, std::int64_t axes,
                                           long double base = 10000) {
  const std::int64_t share = lrpe_share(position, keys, axes);
  const long double rate = position == encoding::cosine ? 2 : 1;
  std::vector<long double> theta;
  for (std::int64_t i = 0; i < share; ++i)
    theta.push_back(std::pow(base, -rate * static_cast<long double>(i) / static_cast<long double>(share)));
  return theta;
}

// Theta: [N, H, d] for cosine, [N, H, floor(d/2)] for rotate; zero for the prefix and for pairs that are left over.
// theta: [share], or [H, share] for one in each head; empty: lrpe_theta.
inline std::vector<long double> lrpe_angles(const grid& where, encoding position, std::int64_t heads, std::int64_t keys,
                                            std::vector<long double> theta = {}) {
  if (position == encoding::none) return {};
  const std::int64_t share = lrpe_share(position, keys, where.axes());
  const std::int64_t count = position == encoding::cosine ? keys : keys / 2;
  if (theta.empty()) theta = lrpe_theta(position, keys, where.axes());
  const auto given = static_cast<std::int64_t>(theta.size());
  if (given != share && given != heads * share) throw std::invalid_argument("oracle: theta has the wrong size");

  std::vector<long double> angles;
  for (std::int64_t t = 0; t < where.tokens(); ++t)
    for (std::int64_t h = 0; h < heads; ++h)
      for (std::int64_t a = 0; a < count; ++a) {
        const std::int64_t axis = a / share;
        long double angle = 0;
        if (t >= where.prefix && axis < where.axes()) {
          const auto place = static_cast<long double>(where.coordinate(t, axis) + where.offset(axis));
          angle = place * theta[static_cast<std::size_t>((given == share ? 0 : h * share) + a % share)];
        }
        angles.push_back(angle);
      }
  return angles;
}

// [x cos Theta, x sin Theta]
inline std::vector<long double> lrpe_cosine(const std::vector<long double>& x, const std::vector<long double>& angles) {
  std::vector<long double> out;
  for (std::size_t i = 0; i < x.size(); ++i) out.push_back(x[i] * std::cos(angles[i]));
  for (std::size_t i = 0; i < x.size(); ++i) out.push_back(x[i] * std::sin(angles[i]));
  return out;
}

// Pair i turned by angles[i]; the pairs are (i, i + h), or the neighbours (2i, 2i + 1).
inline std::vector<long double> lrpe_rotate(const std::vector<long double>& x, const std::vector<long double>& angles,
                                            bool neighbours) {
  const std::size_t half = x.size() / 2;
  std::vector<long double> out = x;
  for (std::size_t i = 0; i < half; ++i) {
    const std::size_t first = neighbours ? 2 * i : i;
    const std::size_t second = neighbours ? 2 * i + 1 : i + half;
    const long double c = std::cos(angles[i]);
    const long double s = std::sin(angles[i]);
    out[first] = c * x[first] - s * x[second];
    out[second] = s * x[first] + c * x[second];
  }
  return out;
}

inline std::vector<long double> lrpe(encoding position, const std::vector<long double>& x,
                                     const std::vector<long double>& angles) {
  if (position == encoding::none) return x;
  if (position == encoding::cosine) return lrpe_cosine(x, angles);
  return lrpe_rotate(x, angles, position == encoding::rotate_neighbours);
}

struct tpe_problem {
  grid where = {};
  std::int64_t batch = 1;
  std::int64_t width = 1;
  std::int64_t modes = 1;          // E
  std::vector<double> x = {};      // [B, N, width]
  std::vector<double> gamma = {};  // [M, E]
  std::vector<double> b = {};      // [M, width, E]
  std::vector<double> mask = {};   // [B, N], 1 keeps a token, 0 reads it as 0; empty: all are kept
  bool both_directions = false;
};

struct tpe_answer {
  std::vector<double> y;     // [B, N, width]: x + sum over axes; x for the prefix, 0 under the mask
  std::vector<double> unit;  // [B, N, width]: the same with the magnitude of every term
};

inline tpe_answer md_tpe(const tpe_problem& p) {
  const std::int64_t tokens = p.where.tokens();
  const auto at = [](const std::vector<double>& a, std::int64_t i) {
    return static_cast<long double>(a[static_cast<std::size_t>(i)]);
  };
  const auto on = [&](std::int64_t b, std::int64_t t) { return p.mask.empty() || at(p.mask, b * tokens + t) != 0; };
  // T_c[i] = sum_j b_{c,j} lambda_j^i with lambda_j = exp(-exp(gamma_j)); or the sum of the magnitudes.
  const auto kernel = [&](std::int64_t axis, std::int64_t c, std::int64_t distance, bool magnitude) {
    long double sum = 0;
    for (std::int64_t j = 0; j < p.modes; ++j) {
      const long double weight = at(p.b, (axis * p.width + c) * p.modes + j);
      const long double power =
          std::exp(-static_cast<long double>(distance) * std::exp(at(p.gamma, axis * p.modes + j)));
      sum += (magnitude ? std::abs(weight) : weight) * power;
    }
    return sum;
  };

  tpe_answer answer;
  for (std::int64_t b = 0; b < p.batch; ++b)
    for (std::int64_t t = 0; t < tokens; ++t)
      for (std::int64_t c = 0; c < p.width; ++c) {
        const auto x = [&](std::int64_t s) { return on(b, s) ? at(p.x, (b * tokens + s) * p.width + c) : 0; };
        long double y = x(t);
        long double unit = std::abs(x(t));
        if (t >= p.where.prefix && on(b, t))
          for (std::int64_t axis = 0; axis < p.where.axes(); ++axis) {
            const std::int64_t here = p.where.coordinate(t, axis);
            for (std::int64_t there = 0; there < p.where.extent(axis); ++there) {
              if (there > here && !p.both_directions) continue;
              const std::int64_t s = t + (there - here) * p.where.stride(axis);
              const std::int64_t distance = std::abs(there - here);
              y += kernel(axis, c, distance, false) * x(s);
              unit += kernel(axis, c, distance, true) * std::abs(x(s));
            }
          }
        answer.y.push_back(static_cast<double>(y));
        answer.unit.push_back(static_cast<double>(unit));
      }
  return answer;
}

}  // namespace oracle
