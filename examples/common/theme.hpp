// SPDX-License-Identifier: Apache-2.0
#pragma once

// The colours of pictures.

#include <algorithm>
#include <cmath>
#include <numbers>

#include "canvas.hpp"

namespace examples {

struct theme {
  static constexpr colour background{13, 17, 23};
  static constexpr colour panel{22, 27, 34};
  static constexpr colour line{48, 54, 61};
  static constexpr colour bright{240, 246, 252};
  static constexpr colour text{201, 209, 217};
  static constexpr colour quiet{139, 148, 158};
  static constexpr colour right{86, 211, 100};
  static constexpr colour wrong{255, 123, 114};
};

/// From OKLab, in which equal steps look equal (https://bottosson.github.io/posts/oklab), given as lightness 0 to 1,
/// chroma and hue in turns.
inline colour from_oklch(double lightness, double chroma, double hue) {
  const double a = chroma * std::cos(2 * std::numbers::pi * hue);
  const double b = chroma * std::sin(2 * std::numbers::pi * hue);
  const auto cube = [](double x) { return x * x * x; };
  const double l = cube(lightness + 0.3963377774 * a + 0.2158037573 * b);
  const double m = cube(lightness - 0.1055613458 * a - 0.0638541728 * b);
  const double s = cube(lightness - 0.0894841775 * a - 1.2914855480 * b);
  const auto encoded = [](double x) {
    return 255 * std::clamp(x <= 0.0031308 ? 12.92 * x : 1.055 * std::pow(x, 1 / 2.4) - 0.055, 0.0, 1.0);
  };
  return {encoded(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
          encoded(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
          encoded(-0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s)};
}

}  // namespace examples
