// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/scan.hpp>
#include <lightnet/core/view.hpp>
#include <lightnet/monoid/affine.hpp>

#include <string>

LIGHTNET_BEGIN_NAMESPACE

/// Inputs of affine_scan. Views of one rank and extents, any strides; a stride of 0 shares a decay.
template <int Rank, class T = float, class Device = cpu>
struct affine_scan_inputs {
  dynamic_view<Rank, const T, Device> decay{}, x{};   // [..., n, ...]
  dynamic_view<Rank - 1, const T, Device> initial{};  // the extents without the axis; zero where not given
  std::size_t axis = 0;                               // along which the recurrence runs
};

/// Outputs of affine_scan; h is needed.
template <int Rank, class T = float, class Device = cpu>
struct affine_scan_outputs {
  dynamic_view<Rank, T, Device> h{};
  dynamic_view<Rank - 1, T, Device> last{};  // h at the end of the axis, or the initial value of an empty one
};

/// Gradients that come back to affine_scan_backward.
template <int Rank, class T = float, class Device = cpu>
struct affine_scan_incoming {
  dynamic_view<Rank, const T, Device> h{};         // as h
  dynamic_view<Rank - 1, const T, Device> last{};  // optional
};

/// Gradients that affine_scan_backward writes; each is optional. decay has the extents of x, shared or not.
template <int Rank, class T = float, class Device = cpu>
struct affine_scan_gradients {
  dynamic_view<Rank, T, Device> decay{}, x{};
  dynamic_view<Rank - 1, T, Device> initial{};
};

namespace detail {

/// The lines of a tensor along one axis, in groups that fill a register with neighbours along the last other axis.
template <int Rank, class T>
struct affine_lines {
  using indices = std::array<std::int64_t, static_cast<std::size_t>(Rank)>;
  using lane = lanes<T>;
  using recurrence = affine<lane>;
  using element = typename recurrence::element;

  indices extents;
  std::size_t axis, lane_axis;
  std::int64_t length, groups_of_row, groups;

  affine_lines(const indices& shape, std::size_t along)
      : extents{shape}, axis{along}, lane_axis{Rank - 1}, length{shape[along]} {
    if (axis == lane_axis && Rank > 1) --lane_axis;
    const std::int64_t across = lane_axis == axis ? 1 : extents[lane_axis];
    groups_of_row = (across + lane_count<T> - 1) / lane_count<T>;
    groups = groups_of_row;
    for (std::size_t i = 0; i < Rank; ++i) {
      if (i != axis && i != lane_axis) groups *= extents[i];
    }
  }

  /// Where group `index` starts.
  struct place {
    indices at{};
    std::int64_t count = 1;
  };
  place of(std::int64_t index) const {
    place p;
    const std::int64_t part = index % groups_of_row;
    index /= groups_of_row;
    for (std::size_t i = Rank; i-- > 0;) {
      if (i == axis || i == lane_axis) continue;
      p.at[i] = index % extents[i];
      index /= extents[i];
    }
    if (lane_axis != axis) {
      p.at[lane_axis] = part * lane_count<T>;
      const std::int64_t left = extents[lane_axis] - p.at[lane_axis];
      p.count = left < lane_count<T> ? left : lane_count<T>;
    }
    return p;
  }

  /// One group of a view with or without the axis.
  template <class U>
  struct strand {
    U* data;
    std::int64_t step;
    line_group<T> group;
    lane load(std::int64_t i) const noexcept { return data ? group.load(data + i * step) : lane{}; }
    void store(std::int64_t i, const lane& value) const noexcept {
      if (data) group.store(data + i * step, value);
    }
  };
  template <class U>
  strand<U> of(const dynamic_view<Rank, U, cpu>& view, const place& p) const {
    if (!view) return {nullptr, 0, {}};
    U* data = view.data();
    for (std::size_t i = 0; i < Rank; ++i) data += p.at[i] * view.stride(i);
    return {data, view.stride(axis), {p.count, lane_axis == axis ? 0 : view.stride(lane_axis)}};
  }
  template <class U>
  strand<U> end_of(const dynamic_view<Rank - 1, U, cpu>& view, const place& p) const {
    if (!view) return {nullptr, 0, {}};
    U* data = view.data();
    std::int64_t lane_stride = 0;
    for (std::size_t i = 0, j = 0; i < Rank; ++i) {
      if (i == axis) continue;
      data += p.at[i] * view.stride(j);
      if (i == lane_axis) lane_stride = view.stride(j);
      ++j;
    }
    return {data, 0, {p.count, lane_stride}};
  }
};

template <int Rank, class T, class Device>
struct affine_scan_checker {
  const char* operation;
  const affine_scan_inputs<Rank, T, Device>& in;
  std::array<std::int64_t, static_cast<std::size_t>(Rank)> shape;
  std::array<std::int64_t, static_cast<std::size_t>(Rank - 1)> ends{};

  affine_scan_checker(const char* name, const affine_scan_inputs<Rank, T, Device>& inputs)
      : operation{name}, in{inputs}, shape{inputs.x.extents()} {
    if (in.axis >= Rank) {
      throw value_error(operation, "axis", "less than " + std::to_string(Rank), std::to_string(in.axis));
    }
    for (std::size_t i = 0, j = 0; i < Rank; ++i) {
      if (i != in.axis) ends[j++] = shape[i];
    }
    needed("x", in.x);
    needed("decay", in.decay);
    optional("initial", in.initial, ends);
  }

  template <class U>
  void needed(const char* argument, const dynamic_view<Rank, U, Device>& view) const {
    if (!view) throw device_error(operation, argument, "a view of memory", "a null pointer");
    optional(argument, view, shape);
  }
  template <class Shape, class U>
  void optional(const char* argument, const view<Shape, U, Device>& view,
                const std::array<std::int64_t, Shape::rank>& expected) const {
    if (view && view.extents() != expected) {
      throw shape_error(operation, argument, "extents " + bracketed(expected), view.describe());
    }
  }
};

}  // namespace detail

/// The element-wise affine recurrence h_t = decay_t h_{t-1} + x_t along one axis of tensors of any rank (HGRN, EMA, the
/// engine of MD-TPE). h may be x. Throws shape_error, value_error or device_error before anything is written.
template <int Rank, class T = float, class Device>
void affine_scan(execution<Device>& on, const affine_scan_inputs<Rank, T, std::type_identity_t<Device>>& inputs,
                 const affine_scan_outputs<Rank, T, std::type_identity_t<Device>>& outputs) {
  detail::affine_scan_checker<Rank, T, Device> check{"affine_scan", inputs};
  check.needed("h", outputs.h);
  check.optional("last", outputs.last, check.ends);
  using lines = detail::affine_lines<Rank, T>;
  using element = typename lines::element;
  const lines all{check.shape, inputs.axis};
  detail::parallel_for(on, all.groups, [&](std::int64_t index, int) {
    const auto place = all.of(index);
    const auto decay = all.of(inputs.decay, place), x = all.of(inputs.x, place);
    const auto h = all.of(outputs.h, place);
    const element begin{typename lines::lane{}, all.end_of(inputs.initial, place).load(0)};
    const element end = detail::scan_line<typename lines::recurrence>(
        all.length, false, begin,
        [&](std::int64_t i) {
          return element{decay.load(i), x.load(i)};
        },
        [&](std::int64_t i, const element&, const element& after) { h.store(i, after.payload); });
    all.end_of(outputs.last, place).store(0, end.payload);
  });
}

/// The gradients of affine_scan, from its inputs and its output h:
///   w_t = decay_{t+1} w_{t+1} + dh_t,  dx_t = w_t,  ddecay_t = w_t h_{t-1},  dinitial = decay_1 w_1.
template <int Rank, class T = float, class Device>
void affine_scan_backward(execution<Device>& on,
                          const affine_scan_inputs<Rank, T, std::type_identity_t<Device>>& inputs,
                          const dynamic_view<Rank, const T, std::type_identity_t<Device>>& h,
                          const affine_scan_incoming<Rank, T, std::type_identity_t<Device>>& incoming,
                          const affine_scan_gradients<Rank, T, std::type_identity_t<Device>>& gradients) {
  detail::affine_scan_checker<Rank, T, Device> check{"affine_scan_backward", inputs};
  check.needed("h", h);
  check.needed("incoming.h", incoming.h);
  check.optional("incoming.last", incoming.last, check.ends);
  check.optional("gradients.decay", gradients.decay, check.shape);
  check.optional("gradients.x", gradients.x, check.shape);
  check.optional("gradients.initial", gradients.initial, check.ends);
  using lines = detail::affine_lines<Rank, T>;
  using element = typename lines::element;
  const lines all{check.shape, inputs.axis};
  detail::parallel_for(on, all.groups, [&](std::int64_t index, int) {
    const auto place = all.of(index);
    const auto decay = all.of(inputs.decay, place), state = all.of(h, place), dh = all.of(incoming.h, place);
    const auto ddecay = all.of(gradients.decay, place), dx = all.of(gradients.x, place);
    const auto initial = all.end_of(inputs.initial, place);
    const std::int64_t last = all.length - 1;
    // The element at t carries the decay of t + 1; the end enters as what comes from beyond it.
    const element begin{typename lines::lane{}, all.end_of(incoming.last, place).load(0)};
    const element first = detail::scan_line<typename lines::recurrence>(
        all.length, true, begin,
        [&](std::int64_t i) {
          return element{i == last ? typename lines::lane{} + T(1) : decay.load(i + 1), dh.load(i)};
        },
        [&](std::int64_t i, const element&, const element& w) {
          dx.store(i, w.payload);
          ddecay.store(i, w.payload * (i > 0 ? state.load(i - 1) : initial.load(0)));
        });
    all.end_of(gradients.initial, place).store(0, all.length > 0 ? decay.load(0) * first.payload : begin.payload);
  });
}

LIGHTNET_END_NAMESPACE
