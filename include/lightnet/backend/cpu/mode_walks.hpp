// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/lanes.hpp>
#include <lightnet/backend/modes.hpp>

// Sums of constant decays along a line, y += sum_j gain_j h_j, h_j = lambda_j h_j + x: what MD-TPE is made of. Three
// multiply-adds a mode, channel and token, of which two are the decay; the least traffic is x and y. Tile: the channels
// of one register and some tokens, walked for so many modes at a time that their states stay in registers.

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The rows of the next tokens, which a walk asks for on its way, register by register as they lie in memory: where the
/// registers of a walk lie far apart, the processor would not see them coming.
template <class T, class U>
struct row_prefetch {
  const T* x;
  const U* y;
  std::int64_t step, registers, left;  // from row to row, of a row, of all rows
  std::int64_t at = 0;

  void ask() noexcept {
    if (left == 0) return;
    --left;
    __builtin_prefetch(x + at * lane_count<T>, 0, 2);
    __builtin_prefetch(y + at * lane_count<T>, 0, 2);
    if (++at == registers) {
      at = 0;
      x += step;
      y += step;
    }
  }
};

/// A stretch of a line of tokens, at most `most` of them: so few that copies of them stay in the first cache, where
/// rows that lie far apart would not. The channels of one register, or the first `count` lanes of one.
template <class T, class U>
struct mode_line {
  static constexpr std::int64_t most = 32;

  const T* x;
  U* y;
  const bool* mask;                      // null: all tokens count
  std::int64_t step, mask_step, length;  // elements from token to token
  std::int64_t count;
  bool begins;  // the line: no mode has a state yet
  row_prefetch<T, U>* next;

  /// Copies from x or y; 0 where a token does not count, and in the lanes past the count.
  void read(const T* from, lanes<T>* to) const noexcept {
    if (whole()) {
      for (std::int64_t i = 0; i < length; ++i) to[i] = load_lanes(from + i * step);
    } else {
      for (std::int64_t i = 0; i < length; ++i) to[i] = counts(i) ? load(from + i * step) : lanes<T>{};
    }
  }
  /// Writes y. Where a token does not count, y becomes 0 or stays what it is.
  void write(const lanes<T>* from, bool clears) const noexcept {
    if (whole()) {
      for (std::int64_t i = 0; i < length; ++i) store_lanes(y + i * step, from[i]);
    } else {
      for (std::int64_t i = 0; i < length; ++i) {
        if (counts(i) || clears) store(y + i * step, counts(i) ? from[i] : lanes<T>{});
      }
    }
  }

 private:
  bool counts(std::int64_t i) const noexcept { return !mask || mask[i * mask_step]; }
  bool filled() const noexcept { return count == lane_count<T>; }
  bool whole() const noexcept { return !mask && filled(); }

  lanes<T> load(const T* from) const noexcept {
    if (filled()) return load_lanes(from);
    lanes<T> value{};
    for (std::int64_t lane = 0; lane < count; ++lane) value[lane] = from[lane];
    return value;
  }
  void store(T* to, const lanes<T>& value) const noexcept {
    if (filled()) return store_lanes(to, value);
    for (std::int64_t lane = 0; lane < count; ++lane) to[lane] = value[lane];
  }
};

/// Adds gain_j h_j to the sums, h_j = lambda_j h_j + x, over the modes from number From on.
template <bool Own, int From, class T, int E>
void sum_modes(const mode_decays<T, E>& decay, const lanes<T>* gain, lanes<T>* state, const lanes<T>* xs,
               lanes<T>* sums, const mode_line<T, T>& line) noexcept {
  constexpr int P = E - From < 8 ? E - From : 8;
  lanes<T> h[P];
  for (int j = 0; j < P; ++j) h[j] = line.begins ? lanes<T>{} : state[From + j];
  for (std::int64_t i = 0; i < line.length; ++i) {
    if constexpr (From == 0) line.next->ask();
    const lanes<T> x = xs[i];
    lanes<T> sum[2] = {sums[i], {}};
    LIGHTNET_UNROLL
    for (int j = 0; j < P; ++j) {
      const T whole = decay.whole[From + j], rest = decay.rest[From + j];
      if constexpr (Own) {
        h[j] = whole * h[j] + (rest * h[j] + x);
        sum[j % 2] += gain[From + j] * h[j];
      } else {
        const lanes<T> before = whole * h[j] + rest * h[j];
        sum[j % 2] += gain[From + j] * before;
        h[j] = before + x;
      }
    }
    sums[i] = sum[0] + sum[1];
  }
  for (int j = 0; j < P; ++j) state[From + j] = h[j];
  if constexpr (From + P < E) sum_modes<Own, From + P>(decay, gain, state, xs, sums, line);
}

/// y = (x, x + y or y) + sum_j gain_j h_j, h_j = lambda_j h_j + x; without Own, a token's own x does not enter its sum.
/// Where a token does not count, x is 0 and so is what y gets. `state` holds the h of the end; without gains there are
/// no modes.
template <bool Own, class T, int E>
void add_modes(const mode_decays<T, E>& decay, const lanes<T>* gain, lanes<T>* state, const mode_line<T, T>& line,
               modes_onto onto) noexcept {
  lanes<T> xs[line.most], sums[line.most];
  line.read(line.x, xs);
  if (onto != modes_onto::x) line.read(line.y, sums);
  for (std::int64_t i = 0; i < line.length; ++i) {
    if (onto == modes_onto::x) sums[i] = xs[i];
    if (onto == modes_onto::x_and_y) sums[i] += xs[i];
  }
  if (gain) sum_modes<Own, 0>(decay, gain, state, xs, sums, line);
  line.write(sums, onto == modes_onto::x);
}

/// What a walk for the gradients of the modes carries along.
template <class T, int E>
struct mode_slopes {
  lanes<T> h[E], slope[E];  // slope: dh / dlambda
};
/// What it sums.
template <class T, int E>
struct mode_gradients {
  lanes<T> gain[E], slope[E];  // sum_t y_t h_t, sum_t y_t dh_t / dlambda
};

/// Adds to the sums over the modes from number From on.
template <bool Own, int From, class T, int E>
void sum_mode_gradients(const mode_decays<T, E>& decay, mode_slopes<T, E>& state, mode_gradients<T, E>& sums,
                        const lanes<T>* xs, const lanes<T>* ys, const mode_line<T, const T>& line) noexcept {
  constexpr int P = E - From < 4 ? E - From : 4;
  lanes<T> h[P], slope[P], dgain[P], dslope[P];
  for (int j = 0; j < P; ++j) {
    h[j] = line.begins ? lanes<T>{} : state.h[From + j];
    slope[j] = line.begins ? lanes<T>{} : state.slope[From + j];
    dgain[j] = sums.gain[From + j];
    dslope[j] = sums.slope[From + j];
  }
  for (std::int64_t i = 0; i < line.length; ++i) {
    if constexpr (From == 0) line.next->ask();
    const lanes<T> x = xs[i], y = ys[i];
    LIGHTNET_UNROLL
    for (int j = 0; j < P; ++j) {
      const T whole = decay.whole[From + j], rest = decay.rest[From + j];
      slope[j] = whole * slope[j] + (rest * slope[j] + h[j]);
      dslope[j] += y * slope[j];
      if constexpr (Own) {
        h[j] = whole * h[j] + (rest * h[j] + x);
        dgain[j] += y * h[j];
      } else {
        const lanes<T> before = whole * h[j] + rest * h[j];
        dgain[j] += y * before;
        h[j] = before + x;
      }
    }
  }
  for (int j = 0; j < P; ++j) {
    state.h[From + j] = h[j];
    state.slope[From + j] = slope[j];
    sums.gain[From + j] = dgain[j];
    sums.slope[From + j] = dslope[j];
  }
  if constexpr (From + P < E) sum_mode_gradients<Own, From + P>(decay, state, sums, xs, ys, line);
}

/// Adds the derivatives of sum_t y_t sum_j gain_j h_j, by gain_j and, but for the factor gain_j, by lambda_j:
/// dh_t / dlambda = lambda dh_{t-1} / dlambda + h_{t-1}. y, as x, is 0 where a token does not count.
template <bool Own, class T, int E>
void add_mode_gradients(const mode_decays<T, E>& decay, mode_slopes<T, E>& state, mode_gradients<T, E>& sums,
                        const mode_line<T, const T>& line) noexcept {
  lanes<T> xs[line.most], ys[line.most];
  line.read(line.x, xs);
  line.read(line.y, ys);
  sum_mode_gradients<Own, 0>(decay, state, sums, xs, ys, line);
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
