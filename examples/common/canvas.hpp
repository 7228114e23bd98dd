// SPDX-License-Identifier: Apache-2.0
#pragma once

// Smooth rectangles, images and lettering on a bitmap. Lengths are pixels, y points down.

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <span>
#include <string_view>
#include <vector>

#include "font.hpp"

namespace examples {

struct colour {
  double red, green, blue;  // sRGB, 0 to 255
};

constexpr colour mixed(colour a, colour b, double share_of_b) {
  return {a.red + (b.red - a.red) * share_of_b, a.green + (b.green - a.green) * share_of_b,
          a.blue + (b.blue - a.blue) * share_of_b};
}

enum class align { left, centre, right };

struct text_style {
  double height;  // of a capital
  colour ink;
  double weight = 2.3;  // thickness of the pen where capitals are 20 high
  align alignment = align::left;
};

class canvas {
 public:
  canvas(int width, int height, colour background)
      : width_(width),
        height_(height),
        pixels_(static_cast<std::size_t>(width) * static_cast<std::size_t>(height), background) {}

  [[nodiscard]] int width() const noexcept { return width_; }
  [[nodiscard]] int height() const noexcept { return height_; }

  /// Three bytes a pixel, row after row.
  [[nodiscard]] std::vector<std::uint8_t> bytes() const {
    std::vector<std::uint8_t> result;
    result.reserve(pixels_.size() * 3);
    for (const auto& pixel : pixels_) {
      for (const double part : {pixel.red, pixel.green, pixel.blue}) {
        result.push_back(static_cast<std::uint8_t>(std::lround(std::clamp(part, 0.0, 255.0))));
      }
    }
    return result;
  }

  void blend(int x, int y, colour ink, double share) {
    if (x < 0 || y < 0 || x >= width_ || y >= height_ || share <= 0) return;
    auto& pixel = pixels_[static_cast<std::size_t>(y) * static_cast<std::size_t>(width_) + static_cast<std::size_t>(x)];
    pixel = mixed(pixel, ink, std::min(share, 1.0));
  }

  /// A filled rectangle with round corners.
  void rectangle(double x, double y, double width, double height, double radius, colour ink) {
    each_pixel(x, y, width, height, [&](int i, int j, double px, double py) {
      blend(i, j, ink, 0.5 - outside(px - x, py - y, width, height, radius));
    });
  }

  /// Its outline, drawn inside.
  void frame(double x, double y, double width, double height, double radius, double thickness, colour ink) {
    each_pixel(x, y, width, height, [&](int i, int j, double px, double py) {
      const double distance = outside(px - x, py - y, width, height, radius);
      blend(i, j, ink, std::min(0.5 - distance, distance + thickness + 0.5));
    });
  }

  /// A grey image, 0 drawn as `dark` and 255 as `light`, enlarged smoothly to fill a rectangle with round corners.
  void image(double x, double y, double width, double height, double radius, std::span<const std::uint8_t> grey,
             int rows, int columns, colour dark, colour light) {
    each_pixel(x, y, width, height, [&](int i, int j, double px, double py) {
      const double value =
          sample(grey, rows, columns, (py - y) * rows / height - 0.5, (px - x) * columns / width - 0.5);
      blend(i, j, mixed(dark, light, std::clamp(value / 255, 0.0, 1.0)),
            0.5 - outside(px - x, py - y, width, height, radius));
    });
  }

  /// One line of ASCII whose base line is at y; returns its width.
  double text(double x, double y, std::string_view line, const text_style& style) {
    const double unit = style.height / capital_height;
    const double width = text_width(line, style);
    double pen = style.alignment == align::left ? x : style.alignment == align::right ? x - width : x - width / 2;
    for (const char character : line) {
      const auto& shape = glyph_of(character);
      stroke(flattened(shape.path, pen, y, unit), style.weight * unit / 2, style.ink);
      pen += (shape.width + glyph_space) * unit;
    }
    return width;
  }

  [[nodiscard]] static double text_width(std::string_view line, const text_style& style) {
    double units = line.empty() ? 0 : -glyph_space;
    for (const char character : line) units += glyph_of(character).width + glyph_space;
    return units * style.height / capital_height;
  }

 private:
  struct point {
    double x, y;
  };
  struct segment {
    point from, to;
  };

  static const glyph& glyph_of(char character) {
    const auto code = static_cast<unsigned char>(character);
    return glyphs[code >= 32 && code < 127 ? code - 32U : '?' - 32U];
  }

  /// Calls back for each pixel that the rectangle may touch, with the coordinates of its centre.
  template <typename Callback>
  static void each_pixel(double x, double y, double width, double height, const Callback& callback) {
    for (int j = static_cast<int>(std::floor(y - 1)); j <= y + height + 1; ++j) {
      for (int i = static_cast<int>(std::floor(x - 1)); i <= x + width + 1; ++i) callback(i, j, i + 0.5, j + 0.5);
    }
  }

  /// Distance from a point to a rectangle with round corners at the origin; negative inside.
  static double outside(double x, double y, double width, double height, double radius) {
    const double across = std::abs(x - width / 2) - width / 2 + radius;
    const double along = std::abs(y - height / 2) - height / 2 + radius;
    return std::hypot(std::max(across, 0.0), std::max(along, 0.0)) + std::min(std::max(across, along), 0.0) - radius;
  }

  /// Catmull-Rom interpolation, sharper than linear and without the staircase of the nearest pixel.
  static double sample(std::span<const std::uint8_t> grey, int rows, int columns, double row, double column) {
    const auto weights = [](double t) {
      return std::array{((2 - t) * t - 1) * t / 2, ((3 * t - 5) * t * t + 2) / 2, ((4 - 3 * t) * t + 1) * t / 2,
                        (t - 1) * t * t / 2};
    };
    const int top = static_cast<int>(std::floor(row));
    const int left = static_cast<int>(std::floor(column));
    const auto vertical = weights(row - top);
    const auto horizontal = weights(column - left);
    double sum = 0;
    for (int j = 0; j < 4; ++j) {
      for (int i = 0; i < 4; ++i) {
        const auto at = static_cast<std::size_t>(std::clamp(top - 1 + j, 0, rows - 1) * columns +
                                                 std::clamp(left - 1 + i, 0, columns - 1));
        sum += vertical[static_cast<std::size_t>(j)] * horizontal[static_cast<std::size_t>(i)] * grey[at];
      }
    }
    return sum;
  }

  /// The pen's path as straight pieces on the canvas.
  static std::vector<segment> flattened(std::string_view path, double x, double y, double unit) {
    std::vector<segment> pieces;
    const auto next_number = [&path] {
      while (path.front() == ' ') path.remove_prefix(1);
      double value = 0;
      const auto end = std::from_chars(path.data(), path.data() + path.size(), value).ptr;
      path.remove_prefix(static_cast<std::size_t>(end - path.data()));
      return value;
    };
    const auto next_point = [&] {
      const double across = next_number();
      return point{x + across * unit, y - next_number() * unit};
    };
    point at{x, y};
    const auto curve = [&](auto position) {
      constexpr int steps = 10;
      for (int i = 1; i <= steps; ++i) {
        const point to = position(static_cast<double>(i) / steps);
        pieces.push_back({pieces.empty() || i == 1 ? at : pieces.back().to, to});
      }
    };
    while (!path.empty()) {
      const char command = path.front();
      path.remove_prefix(1);
      if (command == ' ') continue;
      const point middle = command == 'q' ? next_point() : at;
      const point to = next_point();
      if (command == 'L') {
        pieces.push_back({at, to});
      } else if (command == 'q') {
        curve([&](double t) {
          return point{(1 - t) * ((1 - t) * at.x + 2 * t * middle.x) + t * t * to.x,
                       (1 - t) * ((1 - t) * at.y + 2 * t * middle.y) + t * t * to.y};
        });
      } else if (command == 'h' || command == 'v') {
        curve([&](double t) {
          const double rise = std::sin(t * std::numbers::pi / 2);
          const double rest = 1 - std::cos(t * std::numbers::pi / 2);
          const bool level = command == 'h';
          return point{at.x + (to.x - at.x) * (level ? rise : rest), at.y + (to.y - at.y) * (level ? rest : rise)};
        });
      }
      at = to;
    }
    return pieces;
  }

  /// Draws pieces with a round pen, each pixel once, so that crossings are no darker.
  void stroke(const std::vector<segment>& pieces, double radius, colour ink) {
    if (pieces.empty()) return;
    double left = pieces[0].from.x, right = left, top = pieces[0].from.y, bottom = top;
    for (const auto& piece : pieces) {
      for (const auto& end : {piece.from, piece.to}) {
        left = std::min(left, end.x), right = std::max(right, end.x);
        top = std::min(top, end.y), bottom = std::max(bottom, end.y);
      }
    }
    each_pixel(left - radius, top - radius, right - left + 2 * radius, bottom - top + 2 * radius,
               [&](int i, int j, double px, double py) {
                 double nearest = radius + 1;
                 for (const auto& piece : pieces) nearest = std::min(nearest, distance(piece, px, py));
                 blend(i, j, ink, radius + 0.5 - nearest);
               });
  }

  static double distance(const segment& piece, double x, double y) {
    const double across = piece.to.x - piece.from.x;
    const double along = piece.to.y - piece.from.y;
    const double length = across * across + along * along;
    const double share =
        length > 0 ? std::clamp(((x - piece.from.x) * across + (y - piece.from.y) * along) / length, 0.0, 1.0) : 0;
    return std::hypot(x - piece.from.x - share * across, y - piece.from.y - share * along);
  }

  int width_;
  int height_;
  std::vector<colour> pixels_;
};

}  // namespace examples
