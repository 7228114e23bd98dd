// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/convert.hpp>
#include <lightnet/backend/cpu/reduce.hpp>
#include <lightnet/backend/cross_entropy.hpp>
#include <lightnet/core/math.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// How many rows count. Throws value_error for a label that is no class, naming the row.
inline std::int64_t count_labels(const dynamic_view<1, const std::int32_t, cpu>& labels, std::int64_t classes,
                                 std::int32_t ignore) {
  std::int64_t counted = 0;
  for (std::int64_t row = 0; row < labels.extent(0); ++row) {
    const std::int32_t label = labels(row);
    if (label == ignore) continue;
    if (label < 0 || label >= classes) {
      throw value_error(
          "cross_entropy", "labels",
          "0 to " + std::to_string(classes - 1) + ", or " + std::to_string(ignore) + " for a row that does not count",
          std::to_string(label) + " at row " + std::to_string(row));
    }
    ++counted;
  }
  return counted;
}

inline void count_labels(execution<cpu>&, const dynamic_view<1, const std::int32_t, cpu>& labels, std::int64_t classes,
                         std::int32_t ignore, std::int64_t* counted) {
  *counted = count_labels(labels, classes, ignore);
}

/// The largest of a row, NaN aside; -infinity where there is none.
template <class T>
T largest(const T* row, std::int64_t count) noexcept {
  constexpr int width = 16;
  T top[width];
  for (T& each : top) each = -std::numeric_limits<T>::infinity();
  std::int64_t i = 0;
  for (; i + width <= count; i += width) {
    for (int lane = 0; lane < width; ++lane) top[lane] = row[i + lane] > top[lane] ? row[i + lane] : top[lane];
  }
  for (; i < count; ++i) top[0] = row[i] > top[0] ? row[i] : top[0];
  for (const T each : top) top[0] = each > top[0] ? each : top[0];
  return top[0];
}

/// One row: gives its loss and the class of the largest logit (-1 where all are NaN), and writes its gradient times
/// `share`; a negative label does not count.
///
///   loss = log(sum_k e^x_k) - sum_k p_k x_k,   dx_k = (e^x_k / sum_j e^x_j - p_k) share,
///   p_k = (1 - smoothing) [k = label] + smoothing / K
template <class T>
double cross_entropy_row(const T* x, std::int64_t classes, std::int32_t label, double smoothing, double share,
                         std::int32_t& predicted, T* gradient) noexcept {
  const T top = largest(x, classes);
  std::int32_t first = 0;
  while (first < classes && x[first] != top) ++first;
  predicted = first < classes ? first : -1;
  if (label < 0) {
    if (gradient) std::fill_n(gradient, classes, T(0));
    return 0;
  }
  const double evenly = smoothing / static_cast<double>(classes);
  const auto own = static_cast<double>(x[label] - top);
  double target = (1 - smoothing) * own;
  if (smoothing > 0) {
    const auto term = [top](const T& logit) { return sums<double, 1>{{static_cast<double>(logit - top)}}; };
    target += evenly * sum_row<double, 1>(term, classes, x).values[0];
  }
  double sum = 0;
  if (gradient) {
    const auto keep = [top](const T& logit, T& power) {
      power = exponential(logit - top);
      return sums<double, 1>{{static_cast<double>(power)}};
    };
    sum = sum_row<double, 1>(keep, classes, x, gradient).values[0];
    const T scale = static_cast<T>(share / sum), offset = static_cast<T>(-evenly * share);
    map_row([scale, offset](T& power) { power = multiply_add(power, scale, offset); }, classes, gradient);
    gradient[label] -= static_cast<T>((1 - smoothing) * share);
  } else {
    const auto term = [top](const T& logit) {
      return sums<double, 1>{{static_cast<double>(exponential(logit - top))}};
    };
    sum = sum_row<double, 1>(term, classes, x).values[0];
  }
  return std::log(sum) - target;
}

/// The same for any storage type: rows of two bytes a number go through `wide`, [classes].
template <class T>
double cross_entropy_row(const T* x, std::int64_t classes, std::int32_t label, double smoothing, double share,
                         std::int32_t& predicted, T* gradient, accumulator<T>* wide) noexcept {
  if constexpr (std::is_same_v<T, accumulator<T>>) {
    return cross_entropy_row(x, classes, label, smoothing, share, predicted, gradient);
  } else {
    convert(x, wide, classes);
    const double loss = cross_entropy_row(wide, classes, label, smoothing, share, predicted, gradient ? wide : nullptr);
    if (gradient) convert(wide, gradient, classes);
    return loss;
  }
}

/// What the rows add to the mean, and its gradient; blocks of rows of a fixed size, added in their order. Throws
/// value_error for a label that is no class, before anything is written.
template <class T>
void cross_entropy_rows(execution<cpu>& on, const cross_entropy_inputs<T, cpu>& in,
                        const cross_entropy_outputs<T, cpu>& out) {
  const std::int64_t rows = in.logits.extent(0), classes = in.logits.extent(1);
  const std::int64_t counted = count_labels(in.labels, classes, in.ignore);
  const std::int64_t block = rows_of_block(classes), blocks = block_range::blocks(block, rows);
  const std::int64_t all = in.mean_of ? in.mean_of(0) : counted;
  const double share = all > 0 ? 1 / static_cast<double>(all) : 0;
  execution<cpu>::scope scratch{on};
  double* const loss = scratch.take<double>(blocks);
  std::int64_t* const correct = scratch.take<std::int64_t>(blocks);
  accumulator<T>* const wide =
      std::is_same_v<T, accumulator<T>> ? nullptr : scratch.take<accumulator<T>>(blocks * classes);
  parallel_for(on, blocks, [&](std::int64_t index, int) {
    const block_range part{index, block, rows};
    double block_loss = 0;
    std::int64_t block_correct = 0;
    accumulator<T>* const row = wide ? wide + index * classes : nullptr;
    for (std::int64_t r = part.first; r < part.last; ++r) {
      const std::int32_t label = in.labels(r) == in.ignore ? -1 : in.labels(r);
      std::int32_t predicted = 0;
      T* const gradient = out.dlogits ? out.dlogits.data() + r * out.dlogits.stride(0) : nullptr;
      block_loss += cross_entropy_row(in.logits.data() + r * in.logits.stride(0), classes, label, in.smoothing, share,
                                      predicted, gradient, row);
      block_correct += label >= 0 && predicted == label ? 1 : 0;
      if (out.predicted) out.predicted(r) = predicted;
    }
    loss[index] = block_loss;
    correct[index] = block_correct;
  });
  double total = 0;
  std::int64_t right = 0;
  for (std::int64_t index = 0; index < blocks; ++index) {
    total += loss[index];
    right += correct[index];
  }
  if (out.loss) out.loss(0) = static_cast<accumulator<T>>(total * share);
  if (out.correct) out.correct(0) = right;
  if (out.counted) out.counted(0) = counted;
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
