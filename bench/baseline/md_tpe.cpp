// SPDX-License-Identifier: Apache-2.0
#include "baseline/md_tpe.hpp"

#include <lightnet/core/config.hpp>

#include <algorithm>
#include <vector>

namespace bench::plain {

namespace {

constexpr std::int64_t modes = tpe_picture::modes;

/// Tokens `first`, `first` + `step`, ...
struct line {
  std::int64_t first, step, length;
};

template <class Visit>
void each_line(const tpe_picture& p, const Visit& visit) {
  for (std::int64_t row = 0; row < p.rows; ++row) visit(line{row * p.columns, 1, p.columns});
  if (p.rows == 1) return;
  for (std::int64_t column = 0; column < p.columns; ++column) visit(line{column, p.columns, p.rows});
}

void add_line(const tpe_picture& p, const line& l, std::vector<float>& states) {
  std::fill(states.begin(), states.end(), 0.0F);
  for (std::int64_t t = 0; t < l.length; ++t) {
    const std::int64_t at = (l.first + t * l.step) * p.width;
    for (std::int64_t c = 0; c < p.width; ++c) {
      float* h = states.data() + c * modes;
      const float* gain = p.gain + c * modes;
      const float x = p.x[at + c];
      float sum = 0;
      LIGHTNET_OMP(omp simd reduction(+ : sum))
      for (std::int64_t j = 0; j < modes; ++j) {
        h[j] = p.decay[j] * h[j] + x;
        sum += gain[j] * h[j];
      }
      p.y[at + c] += sum;
    }
  }
}

// The states of all tokens are kept, behind those before the first, which are 0.
void add_line_gradients(const tpe_picture& p, const line& l, std::vector<float>& states, std::vector<float>& later) {
  const std::int64_t row = p.width * modes;
  states.assign(static_cast<std::size_t>((l.length + 1) * row), 0.0F);
  for (std::int64_t t = 0; t < l.length; ++t) {
    const std::int64_t at = (l.first + t * l.step) * p.width;
    for (std::int64_t c = 0; c < p.width; ++c) {
      const float* before = states.data() + t * row + c * modes;
      float* h = states.data() + (t + 1) * row + c * modes;
      for (std::int64_t j = 0; j < modes; ++j) h[j] = p.decay[j] * before[j] + p.x[at + c];
    }
  }
  std::fill(later.begin(), later.end(), 0.0F);
  for (std::int64_t t = l.length; t-- > 0;) {
    const std::int64_t at = (l.first + t * l.step) * p.width;
    for (std::int64_t c = 0; c < p.width; ++c) {
      const float* before = states.data() + t * row + c * modes;
      const float* h = states.data() + (t + 1) * row + c * modes;
      const float* gain = p.gain + c * modes;
      float *w = later.data() + c * modes, *dgain = p.dgain + c * modes;
      const float dy = p.dy[at + c];
      float sum = 0;
      LIGHTNET_OMP(omp simd reduction(+ : sum))
      for (std::int64_t j = 0; j < modes; ++j) {
        w[j] = p.decay[j] * w[j] + gain[j] * dy;
        sum += w[j];
        dgain[j] += dy * h[j];
        p.ddecay[j] += w[j] * before[j];
      }
      p.dx[at + c] += sum;
    }
  }
}

}  // namespace

void md_tpe_forward(const tpe_picture& p) {
  std::vector<float> states(static_cast<std::size_t>(p.width * modes));
  std::copy(p.x, p.x + p.rows * p.columns * p.width, p.y);
  each_line(p, [&](const line& l) { add_line(p, l, states); });
}

void md_tpe_backward(const tpe_picture& p) {
  std::vector<float> states, later(static_cast<std::size_t>(p.width * modes));
  std::copy(p.dy, p.dy + p.rows * p.columns * p.width, p.dx);
  each_line(p, [&](const line& l) { add_line_gradients(p, l, states, later); });
}

}  // namespace bench::plain
