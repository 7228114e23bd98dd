// SPDX-License-Identifier: Apache-2.0
#pragma once

// Volumes in the NIfTI-1 format, https://nifti.nimh.nih.gov/nifti-1, gzipped, as far as this program needs it: one
// little-endian file of bytes in three dimensions, whose header says where left and right are.

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <lightnet/core/decimal.hpp>
#include <string>
#include <vector>

#include "common/gzip.hpp"

namespace segment_volume {

using examples::gzip_reader;

/// Bytes in space. The last axis goes from left to right.
struct volume {
  std::array<std::int64_t, 3> extents{};  // z, y, x
  std::int64_t middle = 0;                // the x between left, which lies below it, and right
  std::vector<std::uint8_t> voxels;       // [z, y, x]

  [[nodiscard]] std::string size_text() const {
    return std::to_string(extents[2]) + " x " + std::to_string(extents[1]) + " x " + std::to_string(extents[0]);
  }
};

namespace detail {

/// The header of the file, field by field.
class nifti_header {
 public:
  static constexpr std::size_t size = 348;

  explicit nifti_header(gzip_reader& reader) {
    const auto had = reader.read(bytes_);
    const auto length = had >= 4 ? at<std::int32_t>(0) : 0;
    if (length == 0x5C010000) reader.fail("is a NIfTI-1 file of big-endian numbers, expected little-endian ones");
    if (had >= 4 && length != static_cast<std::int32_t>(size)) {
      reader.fail("is not a NIfTI-1 file: its header has " + std::to_string(length) + " bytes, expected 348");
    }
    if (had < size) {
      reader.fail("contents end after " + std::to_string(had) + " bytes, inside the NIfTI header");
    }
    if (std::memcmp(bytes_.data() + 344, "n+1", 4) != 0) reader.fail("is not a NIfTI-1 file of header and data");
  }

  template <class Number>
  [[nodiscard]] Number at(std::size_t offset, std::size_t index = 0) const {
    Number value{};
    std::memcpy(&value, bytes_.data() + offset + index * sizeof value, sizeof value);
    return value;
  }

  [[nodiscard]] std::int64_t dimensions() const { return at<std::int16_t>(40); }
  [[nodiscard]] std::int64_t extent(std::size_t axis) const { return at<std::int16_t>(40, axis + 1); }  // x first
  [[nodiscard]] int type() const { return at<std::int16_t>(70); }
  [[nodiscard]] double data_offset() const { return at<float>(108); }
  [[nodiscard]] double slope() const { return at<float>(112); }  // 0: the values are not scaled
  [[nodiscard]] double shift() const { return at<float>(116); }
  [[nodiscard]] bool places() const { return at<std::int16_t>(254) > 0; }  // whether the following is there
  /// Millimetres to the right of the middle are across(0) x + across(1) y + across(2) z + across(3).
  [[nodiscard]] double across(std::size_t index) const { return at<float>(280, index); }

 private:
  std::array<std::uint8_t, size> bytes_{};
};

}  // namespace detail

/// Reads a volume. Throws lightnet::file_error, naming file and reason, for everything that is not as it should be.
inline volume load_nifti(const std::filesystem::path& path) {
  constexpr std::int64_t largest = std::int64_t{1} << 31;  // voxels; the largest of mricron-data has 7 million
  gzip_reader reader(path);
  const detail::nifti_header header(reader);
  if (header.dimensions() != 3) {
    reader.fail("has " + std::to_string(header.dimensions()) + " dimensions, expected 3");
  }
  volume read{{header.extent(2), header.extent(1), header.extent(0)}, 0, {}};
  std::int64_t count = 1;
  for (const auto extent : read.extents) {
    if (extent < 1) reader.fail("holds nothing: " + read.size_text() + " voxels");
    count *= extent;  // of three numbers below 2^15
  }
  if (count > largest) reader.fail("absurd size: " + read.size_text() + " voxels");
  if (header.type() != 2) {
    reader.fail("holds numbers of NIfTI's type " + std::to_string(header.type()) + ", expected 2, which are bytes");
  }
  const double slope = header.slope(), shift = header.shift();
  if (!(slope == 0 || (slope == 1 && shift == 0))) {
    reader.fail("scales its numbers by " + lightnet::detail::decimal(slope) + " and " +
                lightnet::detail::decimal(shift) + ", expected 1 and 0");
  }
  if (!header.places()) reader.fail("does not say where left and right are");
  const double step = header.across(0), middle = -header.across(3) / step;
  const bool straight = step > 0 && header.across(1) == 0 && header.across(2) == 0;
  if (!straight || middle != std::floor(middle) ||
      !(middle >= 1 && middle < static_cast<double>(read.extents[2] - 1))) {
    reader.fail("does not go from left to right, on both sides of a plane of voxels");
  }
  read.middle = static_cast<std::int64_t>(middle);
  const double first = header.data_offset();
  if (!(first >= 352 && first <= 65536 && first == std::floor(first))) {
    reader.fail("says that its data begin at byte " + lightnet::detail::decimal(first) +
                ", expected a whole number from 352 to 65536");
  }
  std::vector<std::uint8_t> between(static_cast<std::size_t>(first) - detail::nifti_header::size);
  if (reader.read(between) < between.size()) reader.fail("contents end in front of the data");
  read.voxels = examples::announced_contents(reader, static_cast<std::uint64_t>(count), "NIfTI");
  return read;
}

}  // namespace segment_volume
