// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/for_each.hpp>
#include <lightnet/backend/reduce.hpp>
#include <lightnet/core/layer_check.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// The inputs of mean_squared_error, both needed.
template <class T = float, class Device = cpu>
struct mean_squared_error_inputs {
  dynamic_view<2, const T, Device> y{};        // [R, C], dense rows
  dynamic_view<2, const T, Device> targets{};  // [R, C], dense rows
  std::int64_t mean_of = 0;                    // rows that the mean is over, where these are some of them; 0: these
};

/// The outputs of mean_squared_error; each is optional.
template <class T = float, class Device = cpu>
struct mean_squared_error_outputs {
  dynamic_view<1, accumulator<T>, Device> loss{};   // [1], what these rows add to the mean over all numbers; 0 of none
  dynamic_view<1, std::int64_t, Device> counted{};  // [1], R
  dynamic_view<2, T, Device> dy{};                  // [R, C], dense rows: the gradient of the mean
};

namespace detail {

template <class T>
struct squared_error {
  using sum = sums<double, 1>;

  /// Of two numbers; where a gradient is an operand, it comes first.
  struct square {
    LIGHTNET_HOST_DEVICE sum operator()(const T& y, const T& target) const noexcept {
      const double error = static_cast<double>(static_cast<accumulator<T>>(y)) -
                           static_cast<double>(static_cast<accumulator<T>>(target));
      return {{error * error}};
    }
    LIGHTNET_HOST_DEVICE sum operator()(const T&, const T& y, const T& target) const noexcept {
      return (*this)(y, target);
    }
  };
  struct keep {
    double* of_rows;
    LIGHTNET_HOST_DEVICE sum operator()(std::int64_t row, const sum& squares) const noexcept {
      of_rows[row] = squares.values[0];
      return squares;
    }
  };
  struct pull {
    accumulator<T> scale;
    LIGHTNET_HOST_DEVICE void operator()(const sum&, T& dy, const T& y, const T& target) const noexcept {
      dy = static_cast<T>(scale * (y - target));
    }
  };
  struct nothing {
    LIGHTNET_HOST_DEVICE void operator()(const sum&, const T&, const T&) const noexcept {}
  };
  /// The sums of all rows, in their order.
  struct total {
    const double* of_rows;
    std::int64_t rows;
    double share;
    accumulator<T>* loss;
    std::int64_t* counted;
    LIGHTNET_HOST_DEVICE void operator()(std::int64_t, std::int64_t, std::int64_t) const noexcept {
      double squares = 0;
      for (std::int64_t row = 0; row < rows; ++row) squares += of_rows[row];
      if (loss) *loss = static_cast<accumulator<T>>(squares * share);
      if (counted) *counted = rows;
    }
  };
};

}  // namespace detail

/// The mean of (y - target)^2 over all numbers, with its gradient 2 (y - target) / (R C). Where the rows of a mean come in
/// parts, a call each, `mean_of` makes loss and gradient those of the whole mean: the losses of the parts add up to it. Sums
/// are in double and in a fixed order; a long row is summed faster than many short ones. Throws shape_error, device_error,
/// or value_error for a mean over less than these rows, before anything is written.
template <class T = float, class Device>
void mean_squared_error(execution<Device>& on, const mean_squared_error_inputs<T, std::type_identity_t<Device>>& inputs,
                        const mean_squared_error_outputs<T, std::type_identity_t<Device>>& outputs) {
  using term = detail::squared_error<T>;
  const std::int64_t rows = inputs.y.extent(0), columns = inputs.y.extent(1);
  const detail::layer_checker check{"mean_squared_error"};
  check.matrix("y", inputs.y, rows, columns);
  check.matrix("targets", inputs.targets, rows, columns);
  if (outputs.loss) check.numbers("loss", outputs.loss, 1);
  if (outputs.counted) check.numbers("counted", outputs.counted, 1);
  if (outputs.dy) check.matrix("dy", outputs.dy, rows, columns);
  if (inputs.mean_of != 0 && inputs.mean_of < rows) {
    throw value_error(check.operation, "mean_of", "0, or " + std::to_string(rows) + " rows or more",
                      std::to_string(inputs.mean_of));
  }
  const std::int64_t numbers = (inputs.mean_of != 0 ? inputs.mean_of : rows) * columns;
  const double share = numbers > 0 ? 1 / static_cast<double>(numbers) : 0;
  typename execution<Device>::scope scratch{on};
  double* const of_rows = scratch.template take<double>(rows);
  const typename term::keep keep{of_rows};
  if (outputs.dy) {
    const typename term::pull pull{static_cast<accumulator<T>>(2 * share)};
    detail::reduce_map<double, 1>(on, rows, columns, typename term::square{}, keep, pull, outputs.dy, inputs.y,
                                  inputs.targets);
  } else {
    detail::reduce_map<double, 1>(on, rows, columns, typename term::square{}, keep, typename term::nothing{}, inputs.y,
                                  inputs.targets);
  }
  detail::for_each_row(on, check.operation, 1, 1,
                       typename term::total{of_rows, rows, share, outputs.loss.data(), outputs.counted.data()});
}

LIGHTNET_END_NAMESPACE
