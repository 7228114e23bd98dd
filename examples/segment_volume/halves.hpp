// SPDX-License-Identifier: Apache-2.0
#pragma once

// The two halves of a labelled brain as one side sees them: the right one is mirrored onto the left.

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <lightnet/core/error.hpp>
#include <numeric>
#include <string>
#include <system_error>
#include <vector>

#include "nifti.hpp"

namespace segment_volume {

/// Where the Debian package mricron-data puts its files.
inline constexpr const char* default_folder = "/usr/share/mricron/templates";

/// Grey values and classes of a half, from the outside to the middle. Class 0 is everything that has no other.
struct half {
  std::array<std::int64_t, 3> extents{};  // z, y, x
  std::vector<std::uint8_t> grey;         // [z, y, x]
  std::vector<std::uint8_t> classes;      // [z, y, x]
};

struct halves {
  half left, right;
  std::vector<int> labels;  // of class 1, 2, ..: the number in the atlas of what lies on the left
};

namespace detail {

/// Of the atlas AAL, numbers 1 to 108 are pairs: an odd one on the left, the next one for the same on the right. What
/// follows lies in the middle.
inline constexpr int pairs = 54, largest_label = 116;

/// Which pair, from 1; 0 for none.
constexpr int pair_of(int label) noexcept { return label <= 2 * pairs ? (label + 1) / 2 : 0; }

/// What `from` holds on one side, from the outside to the middle, which belongs to neither.
inline std::vector<std::uint8_t> side_of(const volume& from, bool right) {
  const auto width = from.extents[2];
  const auto count = std::min(from.middle, width - 1 - from.middle);
  std::vector<std::uint8_t> side;
  side.reserve(static_cast<std::size_t>(from.extents[0] * from.extents[1] * count));
  for (std::int64_t line = 0; line < from.extents[0] * from.extents[1]; ++line) {
    for (std::int64_t x = from.middle - count; x < from.middle; ++x) {
      side.push_back(from.voxels[static_cast<std::size_t>(line * width + (right ? 2 * from.middle - x : x))]);
    }
  }
  return side;
}

/// The pairs that take the most room on one side, the largest first.
inline std::vector<int> largest_pairs(const std::vector<std::uint8_t>& labels, std::size_t count) {
  std::array<std::int64_t, pairs + 1> voxels{};
  for (const int label : labels) ++voxels[static_cast<std::size_t>(pair_of(label))];
  std::vector<int> order(pairs);
  std::iota(order.begin(), order.end(), 1);
  std::ranges::stable_sort(
      order, [&](int a, int b) { return voxels[static_cast<std::size_t>(a)] > voxels[static_cast<std::size_t>(b)]; });
  order.resize(count);
  return order;
}

}  // namespace detail

/// Splits a labelled brain; the classes are its `count` largest pairs on the left, the larger ones first.
inline halves split(const volume& image, const volume& labels, std::size_t count) {
  halves both;
  const auto left = detail::side_of(labels, false), right = detail::side_of(labels, true);
  std::array<std::uint8_t, detail::pairs + 1> class_of{};
  for (const int pair : detail::largest_pairs(left, count)) {
    both.labels.push_back(2 * pair - 1);
    class_of[static_cast<std::size_t>(pair)] = static_cast<std::uint8_t>(both.labels.size());
  }
  const auto made = [&](const std::vector<std::uint8_t>& numbers, bool is_right) {
    half one{image.extents, detail::side_of(image, is_right), {}};
    one.extents[2] = static_cast<std::int64_t>(one.grey.size()) / (one.extents[0] * one.extents[1]);
    one.classes.reserve(numbers.size());
    for (const int label : numbers) one.classes.push_back(class_of[static_cast<std::size_t>(detail::pair_of(label))]);
    return one;
  };
  both.left = made(left, false);
  both.right = made(right, true);
  return both;
}

/// Reads the brain and the atlas from a folder, under the names of mricron-data. Throws lightnet::file_error.
inline halves load_halves(const std::filesystem::path& folder, std::size_t count) {
  const auto image_path = folder / "ch2.nii.gz", labels_path = folder / "aal.nii.gz";
  for (const auto& path : {image_path, labels_path}) {
    std::error_code ignored;
    if (!std::filesystem::exists(path, ignored)) {
      throw lightnet::file_error(path.string(),
                                 "does not exist; apt-get install mricron-data, or name a folder with --data");
    }
  }
  const auto image = load_nifti(image_path), labels = load_nifti(labels_path);
  if (labels.extents != image.extents || labels.middle != image.middle) {
    throw lightnet::file_error(labels_path.string(), "has " + labels.size_text() + " voxels with the middle at " +
                                                         std::to_string(labels.middle) + ", but " +
                                                         image_path.string() + " has " + image.size_text() +
                                                         " with the middle at " + std::to_string(image.middle));
  }
  const auto highest = *std::ranges::max_element(labels.voxels);
  if (highest > detail::largest_label) {
    throw lightnet::file_error(labels_path.string(), "holds the label " + std::to_string(highest) +
                                                         ", expected those of the atlas AAL, 0 to 116");
  }
  return split(image, labels, count);
}

/// 2 |A and B| / (|A| + |B|) for the voxels of each class but 0 (Dice 1945); 0 where there are none.
inline std::vector<double> dice(const std::vector<std::uint8_t>& predicted, const std::vector<std::uint8_t>& truth,
                                std::size_t classes) {
  std::vector<std::int64_t> both(classes + 1), sizes(classes + 1);
  for (std::size_t i = 0; i < truth.size(); ++i) {
    ++sizes[predicted[i]];
    ++sizes[truth[i]];
    if (predicted[i] == truth[i]) ++both[truth[i]];
  }
  std::vector<double> scores;
  for (std::size_t c = 1; c <= classes; ++c) {
    scores.push_back(sizes[c] > 0 ? 2 * static_cast<double>(both[c]) / static_cast<double>(sizes[c]) : 0);
  }
  return scores;
}

}  // namespace segment_volume
