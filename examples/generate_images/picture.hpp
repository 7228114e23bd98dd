// SPDX-License-Identifier: Apache-2.0
#pragma once

// The result as a picture: a row of images for each class.

#include <cstddef>
#include <cstdint>
#include <lightnet/core/error.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/canvas.hpp"
#include "common/theme.hpp"

namespace generate_images {

/// What the picture shows, in ASCII.
struct figure {
  std::string title;                                       // one line, large
  std::string subtitle;                                    // one line below it
  std::vector<std::pair<std::string, std::string>> facts;  // at the top right, value and caption
  std::vector<std::string> classes;                        // names
  int columns = 10;                                        // images of each class
  int side = 28;                                           // of an image
  std::vector<std::uint8_t> pixels;                        // [classes, columns, side, side]
};

/// Draws the figure. Throws shape_error where it contradicts itself.
inline examples::canvas draw(const figure& shown) {
  using namespace examples;
  constexpr double margin = 56, top = 156, padding = 34, names = 118, tile = 84, step = 94;  // tile: 3 times 28
  const auto of_image = static_cast<std::size_t>(shown.side) * static_cast<std::size_t>(shown.side);
  const auto columns = static_cast<std::size_t>(shown.columns);
  if (shown.pixels.size() != shown.classes.size() * columns * of_image || shown.classes.empty() || columns == 0) {
    throw lightnet::shape_error("draw", "pixels", "the images of all classes", std::to_string(shown.pixels.size()));
  }
  const double width = 2 * padding + names + step * static_cast<double>(columns - 1) + tile;
  const double height = 2 * padding + step * static_cast<double>(shown.classes.size() - 1) + tile;
  const double right = margin + width;
  canvas page(static_cast<int>(right + margin), static_cast<int>(top + height + margin), theme::background);
  page.text(margin, 84, shown.title, {34, theme::bright, 2.9});
  page.text(margin, 124, shown.subtitle, {17, theme::quiet});
  double x = right;
  for (auto fact = shown.facts.rbegin(); fact != shown.facts.rend(); ++fact) {
    const text_style value{34, theme::bright, 2.9, align::right}, caption{17, theme::quiet, 2.3, align::right};
    page.text(x, 84, fact->first, value);
    page.text(x, 124, fact->second, caption);
    x -= std::max(canvas::text_width(fact->first, value), canvas::text_width(fact->second, caption)) + 56;
  }
  page.rectangle(margin, top, width, height, 14, theme::panel);
  for (std::size_t row = 0; row < shown.classes.size(); ++row) {
    const double y = top + padding + step * static_cast<double>(row);
    const double left = margin + padding + names;
    page.text(left - 22, y + tile / 2 + 7, shown.classes[row], {14.5, theme::text, 2.3, align::right});
    for (std::size_t column = 0; column < columns; ++column) {
      page.image(left + step * static_cast<double>(column), y, tile, tile, 7,
                 std::span(shown.pixels).subspan((row * columns + column) * of_image, of_image), shown.side, shown.side,
                 theme::background, theme::bright);
    }
  }
  return page;
}

}  // namespace generate_images
