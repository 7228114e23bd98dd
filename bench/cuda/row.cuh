// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/execution.hpp>
#include <lightnet/backend/map.hpp>
#include <lightnet/backend/random.hpp>
#include <lightnet/core/parameters.hpp>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

namespace bench {

namespace ln = lightnet;

using gpu_call = std::function<void(ln::execution<ln::cuda>&)>;

/// What a row is compared with: another call, in turns with the row's.
struct gpu_comparison {
  double work = 0;                      // floating-point operations
  std::function<gpu_call()> prepare{};  // takes the memory, gives the call; nothing where there is nothing to compare
};

/// An operation on the GPU, and the least that it has to move and to compute.
struct gpu_row {
  std::string name;
  double bytes;  // every input read once, every output written once
  double work;   // floating-point operations; of a recurrence 4 d' e a token and head, 10 d' e backward
  std::function<gpu_call()> prepare;  // takes the memory, gives the call
  gpu_comparison compared{};
  int calls = 15;
};

/// Makes a row a benchmark of Google Benchmark: the median of calls, each behind a large copy, by the clock of the device.
/// Counters: of_limit (the least bytes at the rate of the copies over the time of the call), milliseconds, copy_TBps, and the
/// row's bytes and work; of a row that is compared, times_other (its time over the other one's) and of_other_rate (its
/// operations a second over the other one's).
void add(const gpu_row& row);

/// A tensor [extents] of standard normal numbers, on the device.
template <class T, class... Extent>
ln::tensor<ln::rank<static_cast<int>(sizeof...(Extent))>, T, ln::cuda> normal(std::uint64_t seed, Extent... extent) {
  ln::tensor<ln::rank<static_cast<int>(sizeof...(Extent))>, T, ln::cuda> made{{{extent...}}};
  ln::execution<ln::cuda> on;
  ln::fill_normal<T>(on, ln::random_stream{seed, 0}, 0, ln::dynamic_view<1, T, ln::cuda>{made.data(), {{made.size()}}});
  on.synchronize();
  return made;
}

/// -|x| / 2.
template <class T>
struct half_below_zero {
  LIGHTNET_HOST_DEVICE void operator()(T& x) const noexcept {
    x = static_cast<T>(-0.5F * std::abs(static_cast<float>(x)));
  }
};

/// The same as logarithms of decays: of a number x each, -|x| / 2.
template <class T, class... Extent>
ln::tensor<ln::rank<static_cast<int>(sizeof...(Extent))>, T, ln::cuda> log_decays(std::uint64_t seed,
                                                                                  Extent... extent) {
  auto made = normal<T>(seed, extent...);
  ln::execution<ln::cuda> on;
  ln::detail::map(on, 1, made.size(), half_below_zero<T>{},
                  ln::dynamic_view<2, T, ln::cuda>{made.data(), {{1, made.size()}}});
  on.synchronize();
  return made;
}

/// A layer or model whose weights start as nothing: drawing them on the host takes longer than what is to be measured.
template <class Layer>
struct undrawn : Layer {
  void describe(const std::string& prefix, std::int64_t offset, std::vector<ln::parameter>& list) const {
    Layer::describe(prefix, offset, list);
    for (ln::parameter& each : list) {
      if (each.initial.how == ln::initial_value::kind::truncated_normal) each.initial = ln::initial_value::constant(0);
    }
  }
};

/// x + noise / 50.
template <class T>
struct add_noise {
  LIGHTNET_HOST_DEVICE void operator()(T& x, const float& noise) const noexcept {
    x = static_cast<T>(static_cast<float>(x) + 0.02F * noise);
  }
};

/// Parameters of a layer or model, its initial ones and noise, which is drawn on the device.
template <class T, class Layer>
ln::parameter_block<T, ln::cuda> drawn_parameters(const Layer& layer) {
  auto block = ln::parameter_block<T, ln::cuda>::of(undrawn<Layer>{layer});
  block.initialise(1);
  const auto noise = normal<float>(1, block.size());
  ln::execution<ln::cuda> on;
  ln::detail::map(on, 1, block.size(), add_noise<T>{},
                  ln::dynamic_view<2, T, ln::cuda>{block.view().data(), {{1, block.size()}}},
                  ln::dynamic_view<2, const float, ln::cuda>{noise.data(), {{1, block.size()}}});
  on.synchronize();
  return block;
}

/// A product of matrices [n, n], of which limits.cu makes a row.
struct matrix_product {
  static constexpr std::int64_t n = 8192;
  static constexpr double work = 2.0 * n * n * n;
  static gpu_call prepare();
};

/// Independent multiply-adds of float in registers, of which limits.cu makes another.
struct multiply_adds {
  static constexpr int blocks = 132 * 64, threads = 256, chains = 16, turns = 2048;
  static constexpr double work = 2.0 * blocks * threads * chains * turns;
  static gpu_call prepare();
};

void add_decoding_rows();
void add_elementwise_rows();
void add_layer_rows();
void add_limits();
void add_position_rows();
void add_recurrence_rows();
void add_step_rows();
void add_training_rows();

}  // namespace bench
