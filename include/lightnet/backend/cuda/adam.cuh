// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/adam.hpp>
#include <lightnet/backend/cuda/reduce.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// How the sum of squares is made, whatever the device.
struct square_tiling {
  static constexpr int threads = 256;
  static constexpr std::int64_t part = 4096;
};

// parts_i = sum_j g_j^2 over 4096 elements. Least traffic: the gradients, once. Tile: a block of threads a part, sixteen
// elements a thread.
template <class T>
__global__ void __launch_bounds__(square_tiling::threads)
    sum_squares_kernel(row_tiling tiling, const T* x, std::int64_t size, double* parts) {
  __shared__ double slots[row_tiling::warps];
  for (std::int64_t index = blockIdx.x; index < tiling.rows; index += gridDim.x) {
    double sum = 0;
#pragma unroll 4
    for (int i = static_cast<int>(threadIdx.x); i < square_tiling::part; i += square_tiling::threads) {
      const std::int64_t at = index * square_tiling::part + i;
      const double wide = at < size ? static_cast<double>(x[at]) : 0.0;
      sum += wide * wide;
    }
    sum = combine_row(tiling, sum, slots, add_numbers{});
    if (threadIdx.x == 0) parts[index] = sum;
  }
}

/// One block adds the parts, moves the state and decides what becomes of the elements.
template <class T>
__global__ void __launch_bounds__(square_tiling::threads)
    decide_update_kernel(row_tiling tiling, adam_options options, const double* parts, adam_state* state,
                         adam_decision<T>* decision) {
  __shared__ double slots[row_tiling::warps];
  double sum = 0;
#pragma unroll 4
  for (std::int64_t i = threadIdx.x; i < tiling.rows; i += square_tiling::threads) sum += parts[i];
  sum = combine_row(tiling, sum, slots, add_numbers{});
  if (threadIdx.x == 0) *decision = decide_update<T>(options, sum, *state);
}

/// How the elements of a run are shared out.
struct update_tiling {
  static constexpr int threads = 256;
  static constexpr std::int64_t part = 2048, parts = decay_run::longest / part;  // of a run
  std::int64_t runs;
};

// adam_element at every place. Least traffic: parameters and moments in and out, gradients in, a rounded copy out, once
// each. Tile: 2048 elements of a run, eight a thread.
template <class T, class... Data>
__global__ void __launch_bounds__(update_tiling::threads)
    adam_kernel(update_tiling tiling, const decay_run* runs, const adam_decision<T>* decision, Data*... data) {
  if (decision->skips) return;
  for (std::int64_t tile = blockIdx.x; tile < tiling.runs * update_tiling::parts; tile += gridDim.x) {
    const decay_run run = runs[tile / update_tiling::parts];
    const std::int64_t begin = tile % update_tiling::parts * update_tiling::part;
    const std::int64_t end = min(run.count, begin + update_tiling::part);
    const adam_element<T> element = run.decays ? decision->decaying : decision->kept;
    for (std::int64_t i = begin + threadIdx.x; i < end;
         i += update_tiling::threads * places_at_once<place_order::apart>) {
      map_places<place_order::apart>(element, i, update_tiling::threads, end, std::index_sequence_for<Data...>{},
                                     data + run.first...);
    }
  }
}

/// One update, or none where the squares of the gradients add up to more than a parameter can hold, or to NaN. Nothing is
/// read by the host.
template <class T>
void adam_update(execution<cuda>& on, const adam_options& options, const dynamic_view<1, const decay_run, cuda>& runs,
                 adam_state* state, const adam_arguments<T, cuda>& a) {
  static_assert(square_tiling::threads == row_tiling::threads);
  using number = accumulator<T>;
  const std::int64_t most = static_cast<std::int64_t>(on.processors()) * 32, size = a.gradients.size();
  row_tiling tiling{(size + square_tiling::part - 1) / square_tiling::part, square_tiling::part};
  execution<cuda>::scope scratch{on};
  double* const parts = scratch.take<double>(tiling.rows);
  auto* const decision = scratch.take<adam_decision<number>>(1);
  launch(on, "adam", {std::min(tiling.rows, most), square_tiling::threads}, sum_squares_kernel<T>, tiling,
         a.gradients.data(), size, parts);
  launch(on, "adam", {1, square_tiling::threads}, decide_update_kernel<number>, tiling, options, parts, state,
         decision);
  a.pass_to([&]<class... Data>(Data*... data) {
    launch(on, "adam", {std::min(runs.size() * update_tiling::parts, most), update_tiling::threads},
           adam_kernel<number, Data...>, update_tiling{runs.size()}, runs.data(), decision, data...);
  });
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
