// SPDX-License-Identifier: Apache-2.0
#pragma once

// A half of a brain as blocks of voxels, and what is known of blocks as voxels.

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "halves.hpp"

namespace segment_volume {

/// What happens to a half on its way into blocks.
struct change {
  std::array<std::int64_t, 3> shift{};  // voxels that it moves by along z, y, x
  double gain = 1;                      // of the grey values
};

/// A grid of blocks that are `factor` voxels long, over a half and what fills the last patches of so many blocks.
class coarse {
 public:
  coarse(const half& whole, std::int64_t factor, std::int64_t patch) : voxels_{whole.extents}, factor_{factor} {
    const auto side = factor * patch;
    for (std::size_t axis = 0; axis < 3; ++axis) extents_[axis] = (voxels_[axis] + side - 1) / side * patch;
  }

  [[nodiscard]] const std::array<std::int64_t, 3>& extents() const noexcept { return extents_; }  // z, y, x
  [[nodiscard]] std::int64_t size() const noexcept { return extents_[0] * extents_[1] * extents_[2]; }

  /// The mean grey of each block from 0 to 1, and the class in its middle; outside of the half 0, and -1, which is no
  /// class. grey, classes [z, y, x]
  void fill(const half& whole, const change& how, float* grey, std::int32_t* classes) const {
    const double scale = how.gain / (255 * static_cast<double>(factor_ * factor_ * factor_));
    std::vector<std::int64_t> sums(static_cast<std::size_t>(extents_[2]));
    for (std::int64_t z = 0; z < extents_[0]; ++z) {
      for (std::int64_t y = 0; y < extents_[1]; ++y) {
        const auto top = z * factor_ - how.shift[0], front = y * factor_ - how.shift[1];
        std::ranges::fill(sums, 0);
        for (std::int64_t i = top; i < top + factor_; ++i) {
          for (std::int64_t j = front; j < front + factor_; ++j) add_line(whole, i, j, how.shift[2], sums);
        }
        for (std::int64_t x = 0; x < extents_[2]; ++x) {
          const auto middle = factor_ / 2, right = x * factor_ + middle - how.shift[2];
          *grey++ = static_cast<float>(static_cast<double>(sums[static_cast<std::size_t>(x)]) * scale);
          *classes++ =
              inside(top + middle, front + middle, right) ? whole.classes[at(top + middle, front + middle, right)] : -1;
        }
      }
    }
  }

  /// Every voxel gets a vote for the class of the block that it is in, of those below `classes`.
  /// blocks [z, y, x], votes [z, y, x, classes]
  void vote(const std::array<std::int64_t, 3>& shift, std::span<const std::int32_t> blocks, std::int64_t classes,
            std::vector<std::uint8_t>& votes) const {
    for (std::int64_t z = 0; z < voxels_[0]; ++z) {
      for (std::int64_t y = 0; y < voxels_[1]; ++y) {
        for (std::int64_t x = 0; x < voxels_[2]; ++x) {
          const std::array block{(z + shift[0]) / factor_, (y + shift[1]) / factor_, (x + shift[2]) / factor_};
          if (block[0] >= extents_[0] || block[1] >= extents_[1] || block[2] >= extents_[2]) continue;
          const auto said =
              blocks[static_cast<std::size_t>((block[0] * extents_[1] + block[1]) * extents_[2] + block[2])];
          ++votes[at(z, y, x) * static_cast<std::size_t>(classes) + static_cast<std::size_t>(said)];
        }
      }
    }
  }

 private:
  [[nodiscard]] std::size_t at(std::int64_t z, std::int64_t y, std::int64_t x) const noexcept {
    return static_cast<std::size_t>((z * voxels_[1] + y) * voxels_[2] + x);
  }
  [[nodiscard]] bool inside(std::int64_t z, std::int64_t y, std::int64_t x) const noexcept {
    return z >= 0 && z < voxels_[0] && y >= 0 && y < voxels_[1] && x >= 0 && x < voxels_[2];
  }

  /// Adds the voxels of one line, moved by `shift`, to their blocks.
  void add_line(const half& whole, std::int64_t z, std::int64_t y, std::int64_t shift,
                std::vector<std::int64_t>& sums) const {
    if (!inside(z, y, 0)) return;
    const auto first = std::max<std::int64_t>(0, -shift), last = std::min(voxels_[2], extents_[2] * factor_ - shift);
    for (auto x = first; x < last; ++x)
      sums[static_cast<std::size_t>((x + shift) / factor_)] += whole.grey[at(z, y, x)];
  }

  std::array<std::int64_t, 3> voxels_;  // z, y, x
  std::array<std::int64_t, 3> extents_{};
  std::int64_t factor_;
};

/// The class with most votes, of equal ones the first. votes [voxels, classes]
inline std::vector<std::uint8_t> elected(const std::vector<std::uint8_t>& votes, std::size_t classes) {
  std::vector<std::uint8_t> winners;
  winners.reserve(votes.size() / classes);
  for (auto first = votes.begin(); first != votes.end(); first += static_cast<std::ptrdiff_t>(classes)) {
    winners.push_back(
        static_cast<std::uint8_t>(std::max_element(first, first + static_cast<std::ptrdiff_t>(classes)) - first));
  }
  return winners;
}

}  // namespace segment_volume
