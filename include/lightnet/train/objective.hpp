// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/loss/cross_entropy.hpp>
#include <lightnet/loss/mean_squared_error.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// What a trainer holds against what a model gives, y [items * rows, columns]: labels [B] or [B, N], whole numbers, whose
/// loss is the cross entropy of logits with Model::classes columns; or, as targets, numbers of T [B, .., columns], whose
/// loss is the mean squared error.
template <class Labels>
struct objective {
  static constexpr bool classifies = std::is_integral_v<typename Labels::value_type>;

  /// The rows of y that belong to one item.
  static std::int64_t rows_of_item(const Labels& labels) {
    std::int64_t rows = 1;
    for (std::size_t axis = 1; axis < Labels::rank - (classifies ? 0 : 1); ++axis) rows *= labels.extent(axis);
    return rows;
  }
  template <class Model>
  static std::int64_t columns(const Labels& labels) {
    if constexpr (classifies) {
      return Model::classes;
    } else {
      return labels.extent(Labels::rank - 1);
    }
  }

  /// What the mean over a batch is over, where the device has to count it: the labels that count.
  template <class Model, class Device>
  static void count(execution<Device>& on, const Labels& labels, const dynamic_view<1, std::int64_t, Device>& counted) {
    if constexpr (classifies) count_labels(on, in_a_row(labels), Model::classes, counted);
  }

  /// The loss of y, a part of the mean over a batch, its gradient where asked for, and what it counts: labels, or items.
  /// `counted` is what `count` gave for the batch, which has so many items.
  template <class T, class Device>
  static void compute(execution<Device>& on, const Labels& labels, double smoothing,
                      const dynamic_view<1, const std::int64_t, Device>& counted, std::int64_t items,
                      const dynamic_view<2, const T, Device>& y, const cross_entropy_outputs<T, Device>& to) {
    if constexpr (classifies) {
      cross_entropy<T>(on, {.logits = y, .labels = in_a_row(labels), .smoothing = smoothing, .mean_of = counted}, to);
    } else {
      // An item a row: of its numbers a sum is quick.
      const std::array<std::int64_t, 2> shape{labels.extent(0), y.size() / labels.extent(0)};
      dynamic_view<2, T, Device> dy;
      if (to.dlogits) dy = to.dlogits.reshape(shape);
      mean_squared_error<T>(on, {.y = y.reshape(shape), .targets = labels.reshape(shape), .mean_of = items},
                            {.loss = to.loss, .counted = to.counted, .dy = dy});
    }
  }

 private:
  static auto in_a_row(const Labels& labels) {
    if constexpr (Labels::rank == 1) {
      return labels;
    } else {
      return labels.reshape(std::array<std::int64_t, 1>{labels.size()});
    }
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
