// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cross_entropy.hpp>
#include <lightnet/core/decimal.hpp>
#include <lightnet/core/layer_check.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

template <class T, class Device>
void check_cross_entropy(const cross_entropy_inputs<T, Device>& in, const cross_entropy_outputs<T, Device>& out) {
  const auto given = [](const char* argument, bool is_given) {
    if (!is_given) throw device_error("cross_entropy", argument, "a view of memory", "a null pointer");
  };
  const auto extent = [](const char* argument, const auto& vector, std::int64_t expected) {
    if (vector && vector.extent(0) != expected) {
      throw shape_error("cross_entropy", argument, "extents [" + std::to_string(expected) + "]", vector.describe());
    }
  };
  const auto dense_rows = [](const char* argument, const auto& matrix) {
    if (matrix.extent(1) > 1 && matrix.stride(1) != 1) {
      throw shape_error("cross_entropy", argument, "dense rows", matrix.describe());
    }
  };
  given("logits", static_cast<bool>(in.logits));
  given("labels", static_cast<bool>(in.labels));
  const auto reach = [](const char* argument, const auto& view) { check_reach("cross_entropy", argument, view); };
  reach("logits", in.logits);
  reach("labels", in.labels);
  reach("mean_of", in.mean_of);
  reach("loss", out.loss);
  reach("correct", out.correct);
  reach("counted", out.counted);
  reach("predicted", out.predicted);
  reach("dlogits", out.dlogits);
  const std::int64_t rows = in.logits.extent(0), classes = in.logits.extent(1);
  if (classes < 1 || classes > std::numeric_limits<std::int32_t>::max()) {
    throw shape_error("cross_entropy", "logits", "1 to 2147483647 classes", in.logits.describe());
  }
  dense_rows("logits", in.logits);
  extent("labels", in.labels, rows);
  extent("mean_of", in.mean_of, 1);
  extent("loss", out.loss, 1);
  extent("correct", out.correct, 1);
  extent("counted", out.counted, 1);
  extent("predicted", out.predicted, rows);
  if (out.dlogits) {
    if (out.dlogits.extents() != in.logits.extents()) {
      throw shape_error("cross_entropy", "dlogits", "extents " + bracketed(in.logits.extents()),
                        out.dlogits.describe());
    }
    dense_rows("dlogits", out.dlogits);
  }
  if (!(in.smoothing >= 0 && in.smoothing < 1)) {
    throw value_error("cross_entropy", "smoothing", "0 or more, less than 1", detail::decimal(in.smoothing));
  }
}

}  // namespace detail

/// How many of the labels [R] count, as counted [1]: what `mean_of` of cross_entropy takes where its rows come in parts.
/// Throws what cross_entropy throws for labels.
template <class Device>
void count_labels(execution<Device>& on,
                  const dynamic_view<1, const std::int32_t, std::type_identity_t<Device>>& labels, std::int64_t classes,
                  const dynamic_view<1, std::int64_t, std::type_identity_t<Device>>& counted,
                  std::int32_t ignore = -1) {
  const detail::layer_checker check{"count_labels"};
  check.numbers("labels", labels, labels.extent(0));
  check.numbers("counted", counted, 1);
  detail::count_labels(on, labels, classes, ignore, counted.data());
}

/// The cross entropy of labels and the softmax of logits, meant over rows, with its gradient (arXiv 1512.00567 for the
/// smoothing). Where the rows of a mean come in parts, a call each, `mean_of` makes loss and gradient those of the whole
/// mean: the losses of the parts add up to it. Sums are in double and in a fixed order. dlogits may be the memory of logits.
/// Logits may be -infinity; NaN and +infinity make the loss and the row's gradient NaN. Throws shape_error, value_error (for a
/// label it names the row) or device_error before anything is written. Labels in the memory of a GPU that are no classes count
/// as ignored, and execution::check tells of them.
template <class T = float, class Device>
void cross_entropy(execution<Device>& on, const cross_entropy_inputs<T, std::type_identity_t<Device>>& inputs,
                   const cross_entropy_outputs<T, std::type_identity_t<Device>>& outputs) {
  detail::check_cross_entropy(inputs, outputs);
  detail::cross_entropy_rows(on, inputs, outputs);
}

LIGHTNET_END_NAMESPACE
