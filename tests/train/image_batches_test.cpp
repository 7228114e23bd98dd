// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "train/images.hpp"

namespace {

namespace ln = lightnet;
using ln::cpu;
using pictures::load;
using list = std::vector<float>;

constexpr std::int64_t rows = 3, columns = 5, channels = 2, size = rows * columns * channels;

// An image, moved and mirrored; nothing is normalised.
list changed(const pictures::images<cpu>& all, std::int64_t item, bool mirrored, std::int64_t down,
             std::int64_t right) {
  list to;
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t column = 0; column < columns; ++column) {
      for (std::int64_t channel = 0; channel < channels; ++channel) {
        const std::int64_t y = row - down, x = (mirrored ? columns - 1 - column : column) - right;
        const bool inside = y >= 0 && y < rows && x >= 0 && x < columns;
        to.push_back(inside ? static_cast<float>(
                                  all.pixels.data()[((item * rows + y) * columns + x) * channels + channel] / 255.0)
                            : 0.0F);
      }
    }
  }
  return to;
}

}  // namespace

TEST_CASE("image_batches: normalised, in the order asked for") {
  ln::execution<cpu> on{2};
  const pictures::images<cpu> all{9, rows, columns, channels};
  auto source = all.batches({.mean = 0.25, .deviation = 0.5});
  CHECK(source.size() == 9);
  CHECK(load(on, source, {}, 0).inputs.empty());
  const auto both = load(on, source, {6, 2}, 0);
  REQUIRE(both.inputs.size() == 2 * size);
  CHECK(both.labels == std::vector<std::int32_t>{6, 2});
  for (std::size_t i = 0; i < size; ++i) {
    const double grey = all.pixels.data()[6 * size + static_cast<std::int64_t>(i)] / 255.0;
    CHECK(both.inputs[i] == static_cast<float>((grey - 0.25) / 0.5));
  }
  CHECK(load(on, source, {2}, 5).inputs == list(both.inputs.begin() + size, both.inputs.end()));
  CHECK(load(on, source, {}, 0).inputs.empty());
}

TEST_CASE("image_batches: what is random is a function of seed, epoch and image, and takes every value as often") {
  ln::execution<cpu> on{1};
  const pictures::images<cpu> all{9, rows, columns, channels};
  const ln::image_options options{.flip = true, .shift = 1, .seed = 4};
  auto source = all.batches(options), same = all.batches(options);
  const auto batch = load(on, source, {0, 1, 2, 3}, 2);
  CHECK(load(on, same, {3}, 2).inputs == list(batch.inputs.begin() + 3 * size, batch.inputs.end()));
  constexpr int epochs = 3600;
  int seen[2][3][3] = {};
  for (int epoch = 0; epoch < epochs; ++epoch) {
    const list got = load(on, source, {5}, epoch).inputs;
    int found = 0;
    for (int mirrored = 0; mirrored < 2; ++mirrored) {
      for (int down = -1; down <= 1; ++down) {
        for (int right = -1; right <= 1; ++right) {
          if (got != changed(all, 5, mirrored == 1, down, right)) continue;
          ++found;
          ++seen[mirrored][down + 1][right + 1];
        }
      }
    }
    CHECK(found == 1);
  }
  for (const auto& way : seen) {
    for (const auto& line : way) {
      for (const int count : line) {
        CHECK(count > epochs / 18 / 2);
        CHECK(count < epochs / 18 * 2);
      }
    }
  }
}

TEST_CASE("image_batches: names what is wrong") {
  const pictures::images<cpu> all{9, rows, columns, channels};
  auto source = all.batches({});
  for (const std::int64_t wrong : {-1, 9}) {
    const std::vector<std::int64_t> items{3, wrong};
    CHECK_THROWS_WITH_AS(source.load(items, 0), doctest::Contains("those of 9 images"), ln::value_error);
  }
  using of = ln::image_batches<>;
  CHECK_THROWS_AS((of{all.pixels.view(), all.labels.view().slice(0, 0, 8), {}}), ln::shape_error);
  CHECK_THROWS_AS((of{all.pixels.view().slice(2, 0, 4), all.labels.view(), {}}), ln::shape_error);
  CHECK_THROWS_AS(all.batches({.deviation = 0}), ln::value_error);
  CHECK_THROWS_AS(all.batches({.shift = -1}), ln::value_error);
}
