// SPDX-License-Identifier: Apache-2.0
// Batches of tokens made on the GPU: those of the CPU, in a graph too.
#include <lightnet/backend/cuda/graph.cuh>
#include <lightnet/train/masked_batches.hpp>
#include <lightnet/train/token_batches.hpp>

#include "layer/device_numbers.cuh"

namespace {

namespace ln = lightnet;
using ln::cpu, ln::cuda;
using numbers::array, numbers::list;

constexpr ln::token_options cuts{.length = 37, .shift = true, .seed = 3};

list<std::int32_t> text() {
  list<std::int32_t> tokens;
  for (std::int64_t i = 0; i < 1009; ++i) tokens.push_back(static_cast<std::int32_t>(i * i % 23));
  return tokens;
}

template <class Task, class Device>
struct source {
  explicit source(const Task& task) : batches{tokens.template view<1>({1009}), cuts, task} {}

  // Inputs, then labels.
  list<std::int32_t> made(ln::execution<Device>& on, const std::vector<std::int64_t>& items, std::int64_t epoch) {
    const auto batch = batches.load(items, epoch);
    batches.fill(on);
    return read(on, batch);
  }
  template <class Batch>
  static list<std::int32_t> read(ln::execution<Device>& on, const Batch& batch) {
    on.check();
    const auto count = static_cast<std::size_t>(batch.inputs.size());
    list<std::int32_t> both(2 * count);
    Device::copy(both.data(), batch.inputs.data(), count * sizeof(std::int32_t));
    Device::copy(both.data() + count, batch.labels.data(), count * sizeof(std::int32_t));
    return both;
  }

  array<std::int32_t, Device> tokens{text()};
  ln::text_batches<Task, Device> batches;
};

template <class Task>
void check_same(const Task& task) {
  ln::execution<cpu> here;
  const ln::cuda_stream stream;
  ln::execution<cuda> there{stream.get()};
  source<Task, cpu> expected{task};
  source<Task, cuda> got{task};
  for (const std::int64_t epoch : {0, 1, 70000}) {
    for (const std::vector<std::int64_t>& items : {std::vector<std::int64_t>{25, 0, 7}, {5}}) {
      CHECK(got.made(there, items, epoch) == expected.made(here, items, epoch));
    }
  }
  ln::captured_call fill;
  fill.capture(there, [&] { got.batches.fill(there); });
  there.synchronize();
  for (std::int64_t epoch = 2; epoch < 6; ++epoch) {
    const std::vector<std::int64_t> items{3 * epoch};
    const auto batch = got.batches.load(items, epoch);
    fill.replay(there);
    CHECK(source<Task, cuda>::read(there, batch) == expected.made(here, items, epoch));
  }
}

}  // namespace

TEST_CASE("cuda masked_batches: the batches of the CPU, and a graph makes the one that was chosen before its launch") {
  check_same(ln::masking{.mask_token = 23, .rate = 0.3, .hidden = 0.5, .replaced = 0.3});
}

TEST_CASE("cuda token_batches: the same") { check_same(ln::next_token{}); }
