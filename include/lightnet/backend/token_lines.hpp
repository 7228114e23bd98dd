// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/grid.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Tokens in the order in which a recurrence walks them: `length` tokens of views' batch `batch`, from token `first` on,
/// `step` apart. Its state, if it has one, is that of `sequence`; positions count from token `origin`.
struct token_line {
  std::int64_t batch, sequence, origin, first, step, length;

  LIGHTNET_HOST_DEVICE constexpr std::int64_t token(std::int64_t i) const noexcept { return first + i * step; }
};

/// The lines of one pass of a traversal: whole sequences (those of a batch, or packed ones), or the lines along one axis
/// of a grid.
template <int Dims, class Device>
struct token_lines {
  static constexpr int flattened = -1;

  std::int64_t batch = 0;
  grid<Dims> tokens{};
  dynamic_view<1, const std::int64_t, Device> cumulative_lengths{};  // [S + 1] where sequences are packed
  int axis = flattened;
  bool reversed = false;

  LIGHTNET_HOST_DEVICE std::int64_t sequences() const noexcept {
    return cumulative_lengths ? cumulative_lengths.extent(0) - 1 : batch;
  }

  LIGHTNET_HOST_DEVICE std::int64_t lines_of_sequence() const noexcept {
    if (axis == flattened || cumulative_lengths) return 1;
    std::int64_t product = 1;
    for (int i = 0; i < Dims; ++i) product *= i == axis ? 1 : tokens.extents[static_cast<std::size_t>(i)];
    return product;
  }

  LIGHTNET_HOST_DEVICE std::int64_t count() const noexcept { return sequences() * lines_of_sequence(); }

  LIGHTNET_HOST_DEVICE token_line operator[](std::int64_t index) const noexcept {
    token_line line{index, index, 0, 0, 1, tokens.size()};
    if (cumulative_lengths) {
      line.batch = 0;
      line.origin = line.first = cumulative_lengths(index);
      line.length = cumulative_lengths(index + 1) - line.first;
    } else if (axis != flattened) {
      const auto along = static_cast<std::size_t>(axis);
      const std::int64_t lines = lines_of_sequence();
      for (std::size_t i = Dims; i-- > along + 1;) line.step *= tokens.extents[i];
      line.batch = line.sequence = index / lines;
      const std::int64_t place = index % lines;  // the line's place among the cells of the other axes
      line.length = tokens.extents[along];
      line.first = place / line.step * line.step * line.length + place % line.step;
    }
    if (reversed) {
      line.first += (line.length - 1) * line.step;
      line.step = -line.step;
    }
    return line;
  }

  /// The tokens of the longest line; of packed sequences whose lengths lie on a device, those that it could have.
  std::int64_t longest() const noexcept {
    if (!cumulative_lengths) return axis == flattened ? tokens.size() : tokens.extents[static_cast<std::size_t>(axis)];
    if constexpr (!std::is_same_v<Device, cpu>) return tokens.size();
    std::int64_t most = 0;
    for (std::int64_t s = 0; s < sequences(); ++s) {
      const std::int64_t length = cumulative_lengths(s + 1) - cumulative_lengths(s);
      most = length > most ? length : most;
    }
    return most;
  }
};

/// Calls `pass(lines, first)` for every pass of a traversal; `first` says that nothing was written before.
template <class Traversal, int Dims, class Device, class Pass>
void for_each_pass(token_lines<Dims, Device> lines, const Pass& pass) {
  for (int i = 0; i < Traversal::scans(Dims); ++i) {
    lines.axis = Traversal::along_axes ? i / 2 : token_lines<Dims, Device>::flattened;
    lines.reversed = i % 2 == 1;
    pass(lines, i == 0);
  }
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
