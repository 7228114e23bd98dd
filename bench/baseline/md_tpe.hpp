// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace bench::plain {

/// A picture of rows x columns tokens, or a line of as many columns, where `rows` is one.
struct tpe_picture {
  static constexpr std::int64_t modes = 16;

  std::int64_t rows, columns, width;
  const float *x, *dy;    // [rows, columns, width]
  const float* decay;     // [modes]
  const float* gain;      // [width, modes]
  float *y, *dx;          // as x
  float *ddecay, *dgain;  // as decay, gain; added to
};

/// MD-TPE as one writes it down: axis after axis, line after line, token after token, channel after channel, mode after
/// mode.
void md_tpe_forward(const tpe_picture& p);
void md_tpe_backward(const tpe_picture& p);

}  // namespace bench::plain
