// SPDX-License-Identifier: Apache-2.0
// Batches of images made on the GPU: those of the CPU, bit for bit, in a graph too.
#include <lightnet/backend/cuda/graph.cuh>

#include "layer/device_numbers.cuh"
#include "train/images.hpp"

namespace {

namespace ln = lightnet;
using ln::cpu, ln::cuda;
using pictures::load;

template <class T>
void check_same(const ln::image_options& options, std::int64_t rows, std::int64_t columns, std::int64_t channels) {
  CAPTURE(rows);
  CAPTURE(channels);
  ln::execution<cpu> here;
  ln::execution<cuda> there;
  const pictures::images<cpu> all{23, rows, columns, channels};
  const pictures::images<cuda> same{23, rows, columns, channels};
  auto expected = all.batches<T>(options);
  auto source = same.batches<T>(options);
  for (const std::int64_t epoch : {0, 1, 70000}) {
    for (const std::vector<std::int64_t>& items :
         {std::vector<std::int64_t>{22, 0, 7}, {5}, {}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}}) {
      const auto got = load(there, source, items, epoch), right = load(here, expected, items, epoch);
      CHECK(numbers::same_bits(got.inputs, right.inputs));
      CHECK(got.labels == right.labels);
    }
  }
}

}  // namespace

TEST_CASE("cuda image_batches: the bits of the CPU") {
  check_same<float>({.mean = 0.3, .deviation = 0.7}, 28, 28, 1);
  check_same<float>({.mean = 0.3, .deviation = 0.7, .flip = true, .shift = 2, .seed = 11}, 28, 28, 1);
  check_same<float>({.flip = true, .seed = 12}, 19, 31, 3);
  check_same<double>({.shift = 40, .seed = 13}, 7, 5, 2);
}

TEST_CASE("cuda image_batches: a graph makes the batch that was chosen before its launch") {
  const ln::cuda_stream stream;
  ln::execution<cuda> on{stream.get()};
  const pictures::images<cuda> all{23, 9, 11, 1};
  const ln::image_options options{.flip = true, .shift = 1, .seed = 5};
  auto source = all.batches(options), plain = all.batches(options);
  const std::vector<std::int64_t> first{3, 4, 5};
  source.load(first, 0);
  source.fill(on);
  ln::captured_call fill;
  fill.capture(on, [&] { source.fill(on); });
  on.synchronize();
  for (std::int64_t epoch = 1; epoch < 5; ++epoch) {
    const std::vector<std::int64_t> items{epoch, 22 - epoch, 2 * epoch};
    const auto batch = source.load(items, epoch);
    fill.replay(on);
    const auto got = pictures::on_host<float, cuda>(on, batch), expected = load(on, plain, items, epoch);
    CHECK(numbers::same_bits(got.inputs, expected.inputs));
    CHECK(got.labels == expected.labels);
  }
}

TEST_CASE("cuda image_batches: memory of the host is refused") {
  const pictures::images<cpu> all{4, 3, 5, 1};
  const ln::dynamic_view<4, const std::uint8_t, cuda> images{all.pixels.data(), {{4, 3, 5, 1}}};
  const ln::tensor<ln::rank<1>, std::int32_t, cuda> labels{{{4}}};
  CHECK_THROWS_AS((ln::image_batches<float, cuda>{images, labels.view(), {}}), ln::device_error);
}
