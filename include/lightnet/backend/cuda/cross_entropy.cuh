// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cross_entropy.hpp>
#include <lightnet/backend/cuda/reduce.cuh>
#include <lightnet/core/half.hpp>
#include <lightnet/core/math.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// A label as a class, or -1 for a row that does not count; `bad` where it is neither.
struct checked_label {
  std::int32_t value;
  bool bad;
  __device__ checked_label(std::int32_t label, std::int64_t classes, std::int32_t ignore) noexcept
      : value{label}, bad{label != ignore && (label < 0 || label >= classes)} {
    if (bad || label == ignore) value = -1;
  }
};

/// counted = how many rows count; labels that are no class are reported. Labels pass once. Tile: one block.
template <class Label>
__global__ void __launch_bounds__(row_tiling::threads)
    count_labels_kernel(row_tiling tiling, const Label* labels, std::int64_t stride, std::int64_t classes, Label ignore,
                        std::int64_t* counted, unsigned* bad_content) {
  __shared__ long long slots[row_tiling::warps];
  long long count = 0;
  bool bad = false;
#pragma unroll 4
  for (std::int64_t row = threadIdx.x; row < tiling.rows; row += row_tiling::threads) {
    const checked_label label{labels[row * stride], classes, ignore};
    count += label.value >= 0 ? 1 : 0;
    bad = bad || label.bad;
  }
  if (bad) atomicOr(bad_content, 1U);
  count = combine_row(tiling, count, slots, add_numbers{});
  if (threadIdx.x == 0) *counted = count;
}

inline void count_labels(execution<cuda>& on, const dynamic_view<1, const std::int32_t, cuda>& labels,
                         std::int64_t classes, std::int32_t ignore, std::int64_t* counted) {
  row_tiling one_block{labels.extent(0), classes};
  one_block.lanes = row_tiling::threads;
  launch(on, "count_labels", {1, row_tiling::threads}, count_labels_kernel<std::int32_t>, one_block, labels.data(),
         labels.stride(0), classes, ignore, counted, on.bad_content());
}

struct larger_number {
  template <class T>
  __device__ T operator()(T a, T b) const noexcept {
    return b > a ? b : a;
  }
};
struct smaller_number {
  template <class T>
  __device__ T operator()(T a, T b) const noexcept {
    return b < a ? b : a;
  }
};

template <class T>
struct cross_entropy_memory {
  const T* logits;
  std::int64_t logits_stride;
  const std::int32_t* labels;
  std::int64_t labels_stride;
  double smoothing;
  std::int32_t ignore;
  const std::int64_t* mean_of;  // [1]
  double* row_loss;             // [R]
  std::int32_t* row_predicted;  // [R]
  T* dlogits;                   // or null
  std::int64_t dlogits_stride;
};

// loss = log(sum_k e^x_k) - sum_k p_k x_k,   dx_k = (e^x_k / sum_j e^x_j - p_k) share,
// p_k = (1 - smoothing) [k = label] + smoothing / K. Least traffic: the logits in, their gradient out, once each: a row
// that is read again comes from a cache. Tile: a row a warp, or a block where it is long.
template <class T>
__global__ void __launch_bounds__(row_tiling::threads)
    cross_entropy_kernel(row_tiling tiling, cross_entropy_memory<T> memory) {
  using number = accumulator<T>;
  constexpr long long none = limits<long long>::largest;
  __shared__ number top_slots[row_tiling::warps];
  __shared__ long long first_slots[row_tiling::warps];
  __shared__ double sum_slots[row_tiling::warps];
  const std::int64_t classes = tiling.columns;
  const int lane = tiling.lane();
  const double share = *memory.mean_of > 0 ? 1 / static_cast<double>(*memory.mean_of) : 0;
  const double evenly = memory.smoothing / static_cast<double>(classes);
  for (std::int64_t row = tiling.first_row(); row < tiling.rows; row += tiling.row_step()) {
    const T* const x = memory.logits + row * memory.logits_stride;
    T* const gradient = memory.dlogits ? memory.dlogits + row * memory.dlogits_stride : nullptr;
    const std::int32_t label = checked_label{memory.labels[row * memory.labels_stride], classes, memory.ignore}.value;

    number top = -limits<number>::infinity;
#pragma unroll 4
    for (std::int64_t k = lane; k < classes; k += tiling.lanes) top = larger_number{}(top, static_cast<number>(x[k]));
    top = combine_row(tiling, top, top_slots, larger_number{});

    long long first = none;
    double linear = 0, sum = 0;
#pragma unroll 4
    for (std::int64_t k = lane; k < classes; k += tiling.lanes) {
      const number logit = x[k];
      if (logit == top) first = smaller_number{}(first, static_cast<long long>(k));
      linear += static_cast<double>(logit - top);
      sum += static_cast<double>(exponential(logit - top));
    }
    first = combine_row(tiling, first, first_slots, smaller_number{});
    sum = combine_row(tiling, sum, sum_slots, add_numbers{});
    if (memory.smoothing > 0) linear = combine_row(tiling, linear, sum_slots, add_numbers{});

    if (lane == 0) {
      double loss = 0;
      if (label >= 0) {
        double target = (1 - memory.smoothing) * static_cast<double>(static_cast<number>(x[label]) - top);
        if (memory.smoothing > 0) target += evenly * linear;
        loss = std::log(sum) - target;
      }
      memory.row_loss[row] = loss;
      memory.row_predicted[row] = first < classes ? static_cast<std::int32_t>(first) : -1;
    }
    if (!gradient) continue;
    tiling.meet();  // the logit of the label may lie where its gradient goes
    const auto scale = static_cast<number>(share / sum), offset = static_cast<number>(-evenly * share);
    const auto own = static_cast<number>((1 - memory.smoothing) * share);
#pragma unroll 4
    for (std::int64_t k = lane; k < classes; k += tiling.lanes) {
      number slope = 0;
      if (label >= 0) {
        slope = multiply_add(exponential(static_cast<number>(x[k]) - top), scale, offset);
        if (k == label) slope -= own;
      }
      gradient[k] = static_cast<T>(slope);
    }
  }
}

template <class T>
struct cross_entropy_results {
  accumulator<T>* loss;
  std::int64_t *correct, *counted;
  std::int32_t* predicted;
  std::int64_t predicted_stride;
};

/// Adds what the rows gave, in a fixed order; labels that are no class are reported. Tile: one block.
template <class T>
__global__ void __launch_bounds__(row_tiling::threads)
    cross_entropy_total_kernel(row_tiling tiling, cross_entropy_memory<T> memory, std::int64_t classes,
                               cross_entropy_results<T> to, unsigned* bad_content) {
  __shared__ double loss_slots[row_tiling::warps];
  __shared__ long long count_slots[row_tiling::warps];
  double loss = 0;
  long long correct = 0, counted = 0;
  bool bad = false;
#pragma unroll 4
  for (std::int64_t row = threadIdx.x; row < tiling.rows; row += row_tiling::threads) {
    const checked_label label{memory.labels[row * memory.labels_stride], classes, memory.ignore};
    const std::int32_t predicted = memory.row_predicted[row];
    loss += memory.row_loss[row];
    counted += label.value >= 0 ? 1 : 0;
    correct += label.value >= 0 && predicted == label.value ? 1 : 0;
    bad = bad || label.bad;
    if (to.predicted) to.predicted[row * to.predicted_stride] = predicted;
  }
  if (bad) atomicOr(bad_content, 1U);
  loss = combine_row(tiling, loss, loss_slots, add_numbers{});
  correct = combine_row(tiling, correct, count_slots, add_numbers{});
  counted = combine_row(tiling, counted, count_slots, add_numbers{});
  if (threadIdx.x != 0) return;
  const std::int64_t all = *memory.mean_of;
  if (to.loss) *to.loss = static_cast<accumulator<T>>(all > 0 ? loss * (1 / static_cast<double>(all)) : 0);
  if (to.correct) *to.correct = correct;
  if (to.counted) *to.counted = counted;
}

/// What the rows add to the mean, and its gradient. A label that is no class makes its row count as ignored, and sets
/// the flag of the execution.
template <class T>
void cross_entropy_rows(execution<cuda>& on, const cross_entropy_inputs<T, cuda>& in,
                        const cross_entropy_outputs<T, cuda>& out) {
  const std::int64_t rows = in.logits.extent(0), classes = in.logits.extent(1);
  const std::int64_t most = static_cast<std::int64_t>(on.processors()) * 32;
  const row_tiling tiling{rows, classes};
  row_tiling one_block = tiling;
  one_block.lanes = row_tiling::threads;
  execution<cuda>::scope scratch{on};
  const std::int64_t* mean_of = in.mean_of.data();
  if (!mean_of) {
    auto* const counted = scratch.take<std::int64_t>(1);
    count_labels(on, in.labels, classes, in.ignore, counted);
    mean_of = counted;
  }
  const cross_entropy_memory<T> memory{in.logits.data(),
                                       in.logits.stride(0),
                                       in.labels.data(),
                                       in.labels.stride(0),
                                       in.smoothing,
                                       in.ignore,
                                       mean_of,
                                       scratch.take<double>(rows),
                                       scratch.take<std::int32_t>(rows),
                                       out.dlogits.data(),
                                       out.dlogits.stride(0)};
  const cross_entropy_results<T> results{out.loss.data(), out.correct.data(), out.counted.data(), out.predicted.data(),
                                         out.predicted.stride(0)};
  launch(on, "cross_entropy", {std::min(tiling.blocks(), most), row_tiling::threads}, cross_entropy_kernel<T>, tiling,
         memory);
  launch(on, "cross_entropy", {1, row_tiling::threads}, cross_entropy_total_kernel<T>, one_block, memory, classes,
         results, on.bad_content());
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
