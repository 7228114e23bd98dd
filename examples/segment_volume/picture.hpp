// SPDX-License-Identifier: Apache-2.0
#pragma once

// The result as a picture: slices of the brain, what the atlas says of them and what the network says, and the regions.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "common/canvas.hpp"
#include "common/png.hpp"
#include "common/text.hpp"
#include "common/theme.hpp"
#include "halves.hpp"

namespace segment_volume {

using examples::canvas, examples::colour, examples::theme, examples::text;

/// What the picture shows, in ASCII.
struct figure {
  std::string title;                                       // one line, large
  std::string subtitle;                                    // one line below it
  std::vector<std::pair<std::string, std::string>> facts;  // at the top right, value and caption
  const halves* brain = nullptr;
  std::vector<std::uint8_t> predicted;  // [z, y, x], classes of the right half
  std::vector<std::string> names;       // of class 1, 2, ..
  std::vector<double> dice;             // of class 1, 2, ..
};

namespace detail {

struct layout {
  static constexpr int slices = 5;
  static constexpr double margin = 56, top = 156, padding = 34, heading = 66, gap = 16, captions = 150, scale = 1.25;
  static constexpr double names = 330;
};

/// Neighbours in the list are far apart in hue, and from one turn to the next in lightness.
inline colour colour_of(std::size_t which) {
  const auto turn = static_cast<double>(which) * 0.381966;  // the golden angle
  return examples::from_oklch(which % 2 == 0 ? 0.78 : 0.64, 0.15, turn - std::floor(turn));
}

/// Draws one slice seen from above, the front of the head at the top: grey, and over it the classes of `left` and `right`,
/// [z, y, x], where they are given.
inline void draw_slice(canvas& page, double left_edge, double top, const halves& brain, std::int64_t z,
                       const std::vector<std::uint8_t>* left, const std::vector<std::uint8_t>* right) {
  const auto& size = brain.left.extents;
  const auto rows = static_cast<int>(size[1]), columns = static_cast<int>(2 * size[2]);
  const auto place = [&](int row, int column) {  // in a half, which the column says
    const auto x = column < size[2] ? column : columns - 1 - column;
    return static_cast<std::size_t>((z * size[1] + rows - 1 - row) * size[2] + x);
  };
  std::vector<std::uint8_t> grey;
  for (int row = 0; row < rows; ++row) {
    for (int column = 0; column < columns; ++column) {
      grey.push_back((column < size[2] ? brain.left : brain.right).grey[place(row, column)]);
    }
  }
  const double width = columns * layout::scale, height = rows * layout::scale;
  page.image(left_edge, top, width, height, 8, grey, rows, columns, {0, 0, 0}, {255, 255, 255});
  if (!left) return;
  constexpr int samples = 3;  // of a pixel, each way: smooth edges
  for (int j = 0; j < static_cast<int>(height); ++j) {
    for (int i = 0; i < static_cast<int>(width); ++i) {
      colour sum{};
      int coloured = 0;
      for (int sample = 0; sample < samples * samples; ++sample) {
        const int row = static_cast<int>((j + (sample / samples + 0.5) / samples) / layout::scale);
        const int column = static_cast<int>((i + (sample % samples + 0.5) / samples) / layout::scale);
        const auto which = (column < size[2] ? *left : *right)[place(row, column)];
        if (which == 0) continue;
        const auto ink = colour_of(which);
        sum = {sum.red + ink.red, sum.green + ink.green, sum.blue + ink.blue};
        ++coloured;
      }
      if (coloured == 0) continue;
      page.blend(static_cast<int>(left_edge) + i, static_cast<int>(top) + j,
                 {sum.red / coloured, sum.green / coloured, sum.blue / coloured}, 0.7 * coloured / (samples * samples));
    }
  }
}

inline void draw_regions(canvas& page, double left, double top, double height, const figure& shown) {
  page.rectangle(left, top, layout::names, height, 14, theme::panel);
  page.text(left + layout::padding, top + 44, "Regions", {18, theme::bright, 3});
  page.text(left + layout::names - layout::padding, top + 44, "Dice",
            {14.5, theme::quiet, 2.3, examples::align::right});
  const double line = (height - layout::heading - layout::padding) / static_cast<double>(shown.names.size());
  for (std::size_t i = 0; i < shown.names.size(); ++i) {
    const double y = top + layout::heading + line * (static_cast<double>(i) + 0.5);
    page.rectangle(left + layout::padding, y - 15, 18, 18, 4, colour_of(i + 1));
    page.text(left + layout::padding + 32, y, shown.names[i], {13, theme::text});
    page.text(left + layout::names - layout::padding, y, text("%.2f", shown.dice[i]),
              {13, theme::bright, 2.3, examples::align::right});
  }
}

}  // namespace detail

/// Draws the figure.
inline canvas draw(const figure& shown) {
  using detail::layout;
  const auto& brain = *shown.brain;
  const auto& size = brain.left.extents;
  const double width = 2.0 * static_cast<double>(size[2]) * layout::scale;
  const double height = static_cast<double>(size[1]) * layout::scale;
  const double panel = 2 * layout::padding + layout::captions + layout::slices * (width + layout::gap) - layout::gap;
  const double tall = 2 * layout::padding + 3 * (height + layout::gap) - layout::gap;
  const double names_left = layout::margin + panel + 32, right = names_left + layout::names;
  canvas page(static_cast<int>(right + layout::margin), static_cast<int>(layout::top + tall + layout::margin),
              theme::background);
  page.text(layout::margin, 84, shown.title, {34, theme::bright, 2.9});
  page.text(layout::margin, 124, shown.subtitle, {17, theme::quiet});
  double x = right;
  for (auto fact = shown.facts.rbegin(); fact != shown.facts.rend(); ++fact) {
    const examples::text_style value{34, std::next(fact) == shown.facts.rend() ? theme::right : theme::bright, 2.9,
                                     examples::align::right};
    const examples::text_style caption{17, theme::quiet, 2.3, examples::align::right};
    page.text(x, 84, fact->first, value);
    page.text(x, 124, fact->second, caption);
    x -= std::max(canvas::text_width(fact->first, value), canvas::text_width(fact->second, caption)) + 56;
  }
  page.rectangle(layout::margin, layout::top, panel, tall, 14, theme::panel);
  constexpr std::array<std::array<const char*, 2>, 3> captions{
      {{"Brain", ""}, {"Atlas", ""}, {"Network", "its right half"}}};
  for (std::size_t row = 0; row < captions.size(); ++row) {
    const double y = layout::top + layout::padding + (height + layout::gap) * static_cast<double>(row);
    const double text_left = layout::margin + layout::padding;
    page.text(text_left, y + height / 2, captions[row][0], {18, theme::bright, 3});
    page.text(text_left, y + height / 2 + 30, captions[row][1], {13, theme::quiet});
    for (int slice = 0; slice < layout::slices; ++slice) {
      const auto z = size[0] * (2 * slice + 3) / (2 * layout::slices + 4);  // above the neck
      detail::draw_slice(page, text_left + layout::captions + (width + layout::gap) * slice, y, brain, z,
                         row > 0 ? &brain.left.classes : nullptr, row > 1 ? &shown.predicted : &brain.right.classes);
    }
  }
  detail::draw_regions(page, names_left, layout::top, tall, shown);
  return page;
}

/// Draws the figure and replaces the file by it, as PNG. Throws lightnet::file_error where the file cannot be written, and
/// then leaves the old one as it was.
inline void write_picture(const std::filesystem::path& path, const figure& shown) {
  const auto drawn = draw(shown);
  examples::write_png(path, drawn.width(), drawn.height(), 3, drawn.bytes());
}

}  // namespace segment_volume
