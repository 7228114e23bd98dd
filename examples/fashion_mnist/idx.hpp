// SPDX-License-Identifier: Apache-2.0
#pragma once

// Images and labels in the IDX format of http://yann.lecun.com/exdb/mnist, gzipped: big-endian 32-bit numbers (magic,
// count, for images rows and columns), then one byte for each pixel or label.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <lightnet/core/error.hpp>
#include <span>
#include <string>
#include <vector>

#include "common/fingerprint.hpp"
#include "common/gzip.hpp"

namespace fashion_mnist {

using examples::gzip_reader;

/// Where the Debian package dataset-fashion-mnist puts its files.
inline constexpr const char* default_folder = "/usr/share/datasets/fashion-mnist";

/// Labelled grey images of one size.
struct image_set {
  std::int64_t count = 0;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::vector<std::uint8_t> pixels;  // [count, rows, columns], 0 black to 255 white
  std::vector<std::int32_t> labels;  // [count]

  /// The pixels of one image. // [rows, columns]
  [[nodiscard]] std::span<const std::uint8_t> image(std::int64_t index) const {
    const auto size = static_cast<std::size_t>(rows * columns);
    return std::span(pixels).subspan(static_cast<std::size_t>(index) * size, size);
  }

  /// What tells the first `number` images and labels from others.
  [[nodiscard]] std::string fingerprint(std::int64_t number) const {
    return examples::fingerprint(std::span(pixels).first(static_cast<std::size_t>(number * rows * columns)),
                                 std::span(labels).first(static_cast<std::size_t>(number)));
  }
};

namespace detail {

inline constexpr std::uint64_t largest_contents = std::uint64_t{1} << 31U;  // bytes; Fashion-MNIST has 47 million

/// The numbers at the front of the file, the first of which must be `magic`.
template <std::size_t Count>
std::array<std::uint32_t, Count> idx_header(gzip_reader& reader, std::uint32_t magic, const char* kind) {
  std::array<std::uint8_t, 4 * Count> bytes{};
  const auto had = reader.read(bytes);
  std::array<std::uint32_t, Count> numbers{};
  for (std::size_t i = 0; i < bytes.size(); ++i) numbers[i / 4] = numbers[i / 4] << 8U | bytes[i];
  if (had >= 4 && numbers[0] != magic) {
    reader.fail("wrong magic number " + std::to_string(numbers[0]) + ", expected " + std::to_string(magic) +
                " for IDX " + kind);
  }
  if (had < bytes.size()) {
    reader.fail("contents end after " + std::to_string(had) + " bytes, inside the IDX header");
  }
  return numbers;
}

}  // namespace detail

/// Reads gzipped IDX images and the labels, 0 to classes - 1, that belong to them. Throws lightnet::file_error, naming
/// file and reason, for everything that is not as it should be.
inline image_set load_idx(const std::filesystem::path& images_path, const std::filesystem::path& labels_path,
                          std::int32_t classes = 10) {
  gzip_reader images(images_path);
  const auto [magic, count, rows, columns] = detail::idx_header<4>(images, 2051, "images");
  const auto text = std::to_string(count) + " images of " + std::to_string(rows) + " x " + std::to_string(columns);
  if (count == 0 || rows == 0 || columns == 0) images.fail("holds nothing: " + text);
  // Each factor is below 2^32: divide before the third one could leave 64 bits.
  const auto pixels = std::uint64_t{rows} * columns;
  if (pixels > detail::largest_contents / count) images.fail("absurd size: " + text);

  gzip_reader labels(labels_path);
  const auto [labels_magic, labels_count] = detail::idx_header<2>(labels, 2049, "labels");
  if (labels_count != count) {
    labels.fail("holds " + std::to_string(labels_count) + " labels, but " + images_path.string() + " holds " + text);
  }

  image_set set{count, rows, columns, examples::announced_contents(images, pixels * count, "IDX"), {}};
  const auto bytes = examples::announced_contents(labels, count, "IDX");
  const auto wrong = std::ranges::find_if(bytes, [&](std::uint8_t label) { return label >= classes; });
  if (wrong != bytes.end()) {
    labels.fail("label " + std::to_string(*wrong) + " of image " + std::to_string(wrong - bytes.begin()) +
                " is not below the " + std::to_string(classes) + " classes");
  }
  set.labels.assign(bytes.begin(), bytes.end());
  return set;
}

/// The two parts of the data set.
struct data_set {
  image_set train;
  image_set test;
};

/// Reads the four files of Fashion-MNIST, under their usual names, from a folder; throws lightnet::file_error.
inline data_set load_fashion_mnist(const std::filesystem::path& folder = default_folder) {
  for (const auto* name : {"train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz",
                           "t10k-labels-idx1-ubyte.gz"}) {
    std::error_code ignored;
    if (!std::filesystem::exists(folder / name, ignored)) {
      throw lightnet::file_error((folder / name).string(),
                                 "does not exist; apt-get install dataset-fashion-mnist, or name a folder with --data");
    }
  }
  data_set data{load_idx(folder / "train-images-idx3-ubyte.gz", folder / "train-labels-idx1-ubyte.gz"),
                load_idx(folder / "t10k-images-idx3-ubyte.gz", folder / "t10k-labels-idx1-ubyte.gz")};
  for (const auto* set : {&data.train, &data.test}) {
    if (set->rows != 28 || set->columns != 28) {
      throw lightnet::file_error(folder.string(), "holds images of " + std::to_string(set->rows) + " x " +
                                                      std::to_string(set->columns) + ", expected 28 x 28");
    }
  }
  return data;
}

}  // namespace fashion_mnist
