// SPDX-License-Identifier: Apache-2.0
#pragma once

// The result as a picture: test images with what the network says, and the confusion matrix.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <lightnet/core/error.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/canvas.hpp"
#include "common/png.hpp"
#include "common/text.hpp"
#include "common/theme.hpp"

namespace fashion_mnist {

using examples::align;
using examples::canvas;
using examples::colour;
using examples::from_oklch;
using examples::grouped;
using examples::text_style;
using examples::theme;

/// What the picture shows, in ASCII. The grid is filled from the first image on; images beyond it are not drawn.
struct figure {
  std::string title;     // one line, large
  std::string subtitle;  // one line below it
  // At the top right, value and caption: {"88.4 %", "accuracy"}.
  std::vector<std::pair<std::string, std::string>> facts;
  std::vector<std::string> classes;     // names
  std::vector<std::int64_t> confusion;  // [true class, predicted class], counts
  std::int64_t rows = 28;               // of an image
  std::int64_t columns = 28;
  std::span<const std::uint8_t> pixels;     // [images, rows, columns]
  std::span<const std::int32_t> predicted;  // [images]
  std::span<const std::int32_t> truth;      // [images]
};

namespace detail {

/// The colour of a share from 0 to 1: lightness grows evenly, from night blue over teal to pale yellow.
inline colour heat(double share) {
  return from_oklch(0.25 + 0.65 * share, 0.025 + 0.125 * std::sin(2.2 * share), 0.72 - 0.435 * share);
}

struct layout {
  static constexpr std::size_t grid_columns = 8, grid_rows = 6;
  static constexpr double margin = 56, panel_top = 156, padding = 34, panel_gap = 32;
  static constexpr double tile = 98, tile_step_x = 116, tile_step_y = 152;  // 3.5 times 28
  static constexpr double names = 106, cell = 76, recall = 98;
  static constexpr double heading = 66;  // of a panel, above its contents
  static constexpr double grid_width = 2 * padding + tile_step_x * (grid_columns - 1) + tile;
  static constexpr double contents_height = tile_step_y * grid_rows - 10;
  static constexpr double panel_height = heading + contents_height + padding;
};

inline void draw_heading(canvas& page, double x, const std::string& title, const std::string& note) {
  const double y = layout::panel_top + 44;
  const double width = page.text(x, y, title, {18, theme::bright, 3});
  page.text(x + width + 20, y, note, {14.5, theme::quiet});
}

inline void draw_images(canvas& page, double left, const figure& shown) {
  page.rectangle(left, layout::panel_top, layout::grid_width, layout::panel_height, 14, theme::panel);
  const auto size = static_cast<std::size_t>(shown.rows * shown.columns);
  const auto count = std::min(shown.predicted.size(), layout::grid_columns * layout::grid_rows);
  draw_heading(page, left + layout::padding, "Test images",
               "the first " + std::to_string(count) + ", each with its predicted class");
  for (std::size_t i = 0; i < count; ++i) {
    const auto row = i / layout::grid_columns;
    const auto column = i % layout::grid_columns;
    const double x = left + layout::padding + layout::tile_step_x * static_cast<double>(column);
    const double y = layout::panel_top + layout::heading + layout::tile_step_y * static_cast<double>(row);
    const bool right = shown.predicted[i] == shown.truth[i];
    const auto& said = shown.classes[static_cast<std::size_t>(shown.predicted[i])];
    const auto& is = shown.classes[static_cast<std::size_t>(shown.truth[i])];
    page.image(x, y, layout::tile, layout::tile, 8, shown.pixels.subspan(i * size, size), static_cast<int>(shown.rows),
               static_cast<int>(shown.columns), theme::background, theme::bright);
    if (!right) page.frame(x - 3, y - 3, layout::tile + 6, layout::tile + 6, 11, 3, theme::wrong);
    const double middle = x + layout::tile / 2;
    page.text(middle, y + layout::tile + 24, said, {14.5, right ? theme::right : theme::wrong, 2.6, align::centre});
    if (!right) page.text(middle, y + layout::tile + 44, "is " + is, {12, theme::text, 2.3, align::centre});
  }
}

inline void draw_confusion(canvas& page, double left, double width, const figure& shown) {
  page.rectangle(left, layout::panel_top, width, layout::panel_height, 14, theme::panel);
  draw_heading(page, left + layout::padding, "Confusion matrix", "true class in rows, predicted class in columns");
  const auto classes = shown.classes.size();
  const double x0 = left + layout::padding + layout::names;
  const double y0 = layout::panel_top + layout::heading + 28;
  const double cell_height = (layout::contents_height - 28) / static_cast<double>(classes);
  for (std::size_t row = 0; row < classes; ++row) {
    const double x = x0 + layout::cell * static_cast<double>(row);
    const double y = y0 + cell_height * static_cast<double>(row);
    page.text(x + layout::cell / 2, y0 - 14, shown.classes[row], {12, theme::text, 2.3, align::centre});
    page.text(x0 - 14, y + cell_height / 2 + 7, shown.classes[row], {14.5, theme::text, 2.3, align::right});
    std::int64_t total = 0;
    for (std::size_t column = 0; column < classes; ++column) total += shown.confusion[row * classes + column];
    for (std::size_t column = 0; column < classes; ++column) {
      const auto count = shown.confusion[row * classes + column];
      const double share = total == 0 ? 0 : static_cast<double>(count) / static_cast<double>(total);
      const double left_edge = x0 + layout::cell * static_cast<double>(column);
      // The square root lets rare confusions be seen beside the diagonal.
      const double shade = std::sqrt(share);
      page.rectangle(left_edge + 1, y + 1, layout::cell - 2, cell_height - 2, 5, heat(shade));
      if (count == 0) continue;
      page.text(left_edge + layout::cell / 2, y + cell_height / 2 + 7.5, grouped(count),
                {row == column ? 16.0 : 15.0, shade > 0.6 ? theme::background : theme::bright,
                 row == column ? 3.0 : 2.3, align::centre});
    }
    if (total == 0) continue;
    const auto diagonal = static_cast<double>(shown.confusion[row * classes + row]);
    const auto tenths = std::llround(1000 * diagonal / static_cast<double>(total));
    page.text(x0 + layout::cell * static_cast<double>(classes) + layout::recall - 12, y + cell_height / 2 + 7.5,
              std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " %",
              {15, theme::bright, 2.6, align::right});
  }
  page.text(x0 + layout::cell * static_cast<double>(classes) + layout::recall - 12, y0 - 14, "recall",
            {12, theme::quiet, 2.3, align::right});
}

inline void check(const figure& shown) {
  const auto classes = static_cast<std::int64_t>(shown.classes.size());
  const auto images = shown.truth.size();
  if (shown.confusion.size() != shown.classes.size() * shown.classes.size()) {
    throw lightnet::shape_error("write_picture", "confusion", "classes times classes counts",
                                std::to_string(shown.confusion.size()));
  }
  if (shown.rows < 1 || shown.columns < 1 || shown.predicted.size() != images ||
      shown.pixels.size() < images * static_cast<std::size_t>(shown.rows * shown.columns)) {
    throw lightnet::shape_error("write_picture", "pixels, predicted, truth", "as many images in each",
                                std::to_string(shown.pixels.size()) + " pixels, " +
                                    std::to_string(shown.predicted.size()) + " and " + std::to_string(images));
  }
  for (const auto labels : {shown.predicted, shown.truth}) {
    for (const auto label : labels) {
      if (label < 0 || label >= classes) {
        throw lightnet::value_error("write_picture", "predicted, truth", "labels below " + std::to_string(classes),
                                    std::to_string(label));
      }
    }
  }
}

}  // namespace detail

/// Draws the shown.
inline canvas draw(const figure& shown) {
  using namespace detail;
  check(shown);
  const double matrix_width =
      2 * layout::padding + layout::names + layout::cell * static_cast<double>(shown.classes.size()) + layout::recall;
  const double matrix_left = layout::margin + layout::grid_width + layout::panel_gap;
  const double right = matrix_left + matrix_width;
  canvas page(static_cast<int>(right + layout::margin),
              static_cast<int>(layout::panel_top + layout::panel_height + layout::margin), theme::background);
  page.text(layout::margin, 84, shown.title, {34, theme::bright, 2.9});
  page.text(layout::margin, 124, shown.subtitle, {17, theme::quiet});
  double x = right;
  for (auto fact = shown.facts.rbegin(); fact != shown.facts.rend(); ++fact) {
    const bool first = std::next(fact) == shown.facts.rend();
    const text_style value{34, first ? theme::right : theme::bright, 2.9, align::right};
    const text_style caption{17, theme::quiet, 2.3, align::right};
    const double width = std::max(canvas::text_width(fact->first, value), canvas::text_width(fact->second, caption));
    page.text(x, 84, fact->first, value);
    page.text(x, 124, fact->second, caption);
    x -= width + 56;
  }
  draw_images(page, layout::margin, shown);
  draw_confusion(page, matrix_left, matrix_width, shown);
  return page;
}

/// Draws the figure and replaces the file by it, as PNG. Throws shape_error or value_error for a figure that
/// contradicts itself, file_error where the file cannot be written, and then leaves the old one as it was.
inline void write_picture(const std::filesystem::path& path, const figure& shown) {
  const auto drawn = draw(shown);
  examples::write_png(path, drawn.width(), drawn.height(), 3, drawn.bytes());
}

}  // namespace fashion_mnist
