// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/grid.hpp>

#include <cmath>

LIGHTNET_BEGIN_NAMESPACE

/// The two forms of the linearised relative encoding, and the two layouts of the rotated pairs found in the wild.
enum class lrpe_form { cosine, rotate };
enum class lrpe_pairs { halves, neighbours };

/// MD-LRPE, the multi-dimensional linearised relative positional encoding (arXiv 2405.21022), applied inside the
/// recurrence to the query and to the weights of the key. Each of the M axes has a share of the angles
/// Theta = coordinate * theta:
/// - cosine: out = [x cos Theta, x sin Theta], so the width doubles and scores depend on cos(Theta_s - Theta_t);
///   d angles, ceil(d / M) an axis, the last axis cut short; (M - 1) ceil(d / M) < d.
/// - rotate: pairs of channels turn by Theta; M floor(floor(d / 2) / M) angles, what is left over stays; d >= 2 M.
/// theta_i = 10000^(-2 i / share) (cosine) or 10000^(-i / share) (rotate), i < share, the same for every axis; other or
/// learned theta are an argument of scan.
template <lrpe_form Form, lrpe_pairs Pairs = lrpe_pairs::halves>
struct basic_md_lrpe {
  static constexpr const char* name = Form == lrpe_form::cosine ? "md_lrpe" : "md_lrpe_rotate";
  static constexpr bool encodes = true;
  static constexpr bool mixes_channels = Form == lrpe_form::rotate;
  static constexpr bool turns_neighbours = mixes_channels && Pairs == lrpe_pairs::neighbours;
  static constexpr double base = 10000;

  /// d', the rows of the state for d keys.
  LIGHTNET_HOST_DEVICE static constexpr std::int64_t width(std::int64_t keys) noexcept {
    return Form == lrpe_form::cosine ? 2 * keys : keys;
  }
  /// The angles of one axis.
  LIGHTNET_HOST_DEVICE static constexpr std::int64_t share(std::int64_t keys, std::int64_t dims) noexcept {
    return Form == lrpe_form::cosine ? (keys + dims - 1) / dims : keys / 2 / dims;
  }
  /// The angles of a token.
  LIGHTNET_HOST_DEVICE static constexpr std::int64_t angles(std::int64_t keys, std::int64_t dims) noexcept {
    return Form == lrpe_form::cosine ? keys : share(keys, dims) * dims;
  }
  /// Whether d keys give every one of M axes an angle.
  LIGHTNET_HOST_DEVICE static constexpr bool fits(std::int64_t keys, std::int64_t dims) noexcept {
    return Form == lrpe_form::cosine ? (dims - 1) * share(keys, dims) < keys : keys >= 2 * dims;
  }
  /// theta of angle `index`, which lies on axis index / share. The exponent is rounded in more than double: an error
  /// there grows by the logarithm of the base, and then by the position.
  static double theta(std::int64_t index, std::int64_t keys, std::int64_t dims) noexcept {
    const std::int64_t whole = share(keys, dims);
    const std::int64_t rate = Form == lrpe_form::cosine ? 2 : 1;
    const auto exponent = static_cast<long double>(rate * (index % whole)) / static_cast<long double>(whole);
    return static_cast<double>(std::pow(static_cast<long double>(base), -exponent));
  }

  /// y = encoded x. x [d], y [d'], cosine and sine [angles].
  template <class T>
  static void apply(const T* x, T* y, const T* cosine, const T* sine, std::int64_t keys, std::int64_t count) noexcept {
    if constexpr (Form == lrpe_form::cosine) {
      LIGHTNET_OMP(omp simd)
      for (std::int64_t i = 0; i < keys; ++i) {
        y[i] = x[i] * cosine[i];
        y[keys + i] = x[i] * sine[i];
      }
    } else {
      for (std::int64_t i = 0; i < keys; ++i) y[i] = x[i];
      for (std::int64_t j = 0; j < count; ++j) {
        const auto [a, b] = pair(j, keys);
        y[a] = x[a] * cosine[j] - x[b] * sine[j];
        y[b] = x[a] * sine[j] + x[b] * cosine[j];
      }
    }
  }

  /// dx from dy; adds the gradient of each angle to dangle where that is not null.
  template <class T>
  static void pull(const T* x, const T* dy, T* dx, T* dangle, const T* cosine, const T* sine, std::int64_t keys,
                   std::int64_t count) noexcept {
    if constexpr (Form == lrpe_form::cosine) {
      for (std::int64_t i = 0; i < keys; ++i) dx[i] = dy[i] * cosine[i] + dy[keys + i] * sine[i];
      if (!dangle) return;
      for (std::int64_t i = 0; i < keys; ++i) dangle[i] += x[i] * (dy[keys + i] * cosine[i] - dy[i] * sine[i]);
    } else {
      for (std::int64_t i = 0; i < keys; ++i) dx[i] = dy[i];
      for (std::int64_t j = 0; j < count; ++j) {
        const auto [a, b] = pair(j, keys);
        dx[a] = dy[a] * cosine[j] + dy[b] * sine[j];
        dx[b] = dy[b] * cosine[j] - dy[a] * sine[j];
        if (dangle) dangle[j] += x[a] * dx[b] - x[b] * dx[a];
      }
    }
  }

  /// Element i < d' of apply's y; `x` may be anything that an index gives a number of.
  template <class T, class Row>
  LIGHTNET_HOST_DEVICE static T encoded(const Row& x, std::int64_t i, const T* cosine, const T* sine, std::int64_t keys,
                                        std::int64_t count) noexcept {
    if constexpr (Form == lrpe_form::cosine) {
      return i < keys ? static_cast<T>(x[i]) * cosine[i] : static_cast<T>(x[i - keys]) * sine[i - keys];
    } else {
      const place at = place_of(i, keys, count);
      if (!at.turns) return static_cast<T>(x[i]);
      const auto [a, b] = pair(at.angle, keys);
      const T first = static_cast<T>(x[a]), second = static_cast<T>(x[b]);
      return i == a ? first * cosine[at.angle] - second * sine[at.angle]
                    : first * sine[at.angle] + second * cosine[at.angle];
    }
  }

  /// Element i < d of pull's dx.
  template <class T, class Row>
  LIGHTNET_HOST_DEVICE static T decoded(const Row& dy, std::int64_t i, const T* cosine, const T* sine,
                                        std::int64_t keys, std::int64_t count) noexcept {
    if constexpr (Form == lrpe_form::cosine) {
      return static_cast<T>(dy[i]) * cosine[i] + static_cast<T>(dy[keys + i]) * sine[i];
    } else {
      const place at = place_of(i, keys, count);
      if (!at.turns) return static_cast<T>(dy[i]);
      const auto [a, b] = pair(at.angle, keys);
      const T first = static_cast<T>(dy[a]), second = static_cast<T>(dy[b]);
      return i == a ? first * cosine[at.angle] + second * sine[at.angle]
                    : second * cosine[at.angle] - first * sine[at.angle];
    }
  }

  /// What pull adds to the gradient of angle j.
  template <class T, class Row, class GradientRow>
  LIGHTNET_HOST_DEVICE static T angle_gradient(const Row& x, const GradientRow& dy, std::int64_t j, const T* cosine,
                                               const T* sine, std::int64_t keys, std::int64_t count) noexcept {
    if constexpr (Form == lrpe_form::cosine) {
      return static_cast<T>(x[j]) * (static_cast<T>(dy[keys + j]) * cosine[j] - static_cast<T>(dy[j]) * sine[j]);
    } else {
      const auto [a, b] = pair(j, keys);
      return static_cast<T>(x[a]) * decoded<T>(dy, b, cosine, sine, keys, count) -
             static_cast<T>(x[b]) * decoded<T>(dy, a, cosine, sine, keys, count);
    }
  }

 private:
  struct channels {
    std::int64_t first, second;
  };
  // The angle by which a channel turns, where it does.
  struct place {
    bool turns;
    std::int64_t angle;
  };
  LIGHTNET_HOST_DEVICE static constexpr place place_of(std::int64_t i, std::int64_t keys, std::int64_t count) noexcept {
    const std::int64_t half = keys / 2;
    const std::int64_t angle = Pairs == lrpe_pairs::neighbours ? i / 2 : (i < half ? i : i - half);
    return {angle < count, angle};
  }
  LIGHTNET_HOST_DEVICE static constexpr channels pair(std::int64_t j, std::int64_t keys) noexcept {
    return Pairs == lrpe_pairs::halves ? channels{j, j + keys / 2} : channels{2 * j, 2 * j + 1};
  }
};

/// The paper's form, cosine.
using md_lrpe = basic_md_lrpe<lrpe_form::cosine>;
/// Rotation of pairs (i, i + d/2), the multi-dimensional form of RoPE (arXiv 2104.09864).
using md_lrpe_rotate = basic_md_lrpe<lrpe_form::rotate>;

LIGHTNET_END_NAMESPACE
