// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/half.hpp>
#include <lightnet/core/view.hpp>

#include <cstdint>

LIGHTNET_BEGIN_NAMESPACE

/// The inputs of cross_entropy: logits and labels are needed.
template <class T = float, class Device = cpu>
struct cross_entropy_inputs {
  dynamic_view<2, const T, Device> logits{};             // [R, K], dense rows
  dynamic_view<1, const std::int32_t, Device> labels{};  // [R], 0 to K - 1
  double smoothing = 0;                                  // share of the target spread evenly over all classes, [0, 1)
  std::int32_t ignore = -1;                              // a label that says: this row does not count
  // [1], the rows that the mean is over, where these are some of them (count_labels); left out: those of these that count
  dynamic_view<1, const std::int64_t, Device> mean_of{};
};

/// The outputs of cross_entropy; each is optional.
template <class T = float, class Device = cpu>
struct cross_entropy_outputs {
  dynamic_view<1, accumulator<T>, Device> loss{};   // [1], what these rows add to the mean; 0 where none counts
  dynamic_view<1, std::int64_t, Device> correct{};  // [1], rows whose largest logit is the label's
  dynamic_view<1, std::int64_t, Device> counted{};  // [1], rows that count
  dynamic_view<1, std::int32_t, Device>
      predicted{};                       // [R], the class of the largest logit, of equal ones the first; -1: all NaN
  dynamic_view<2, T, Device> dlogits{};  // [R, K], dense rows: the gradient of the mean, 0 in a row that does not count
};

LIGHTNET_END_NAMESPACE

#include <lightnet/backend/cpu/cross_entropy.hpp>
#if defined(LIGHTNET_HAS_CUDA)
#include <lightnet/backend/cuda/cross_entropy.cuh>
#endif
