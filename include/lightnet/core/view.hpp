// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/extents.hpp>

#include <type_traits>

LIGHTNET_BEGIN_NAMESPACE

struct cpu;

/// A window on elements that somebody else owns: pointer, extents and strides (in elements, of any sign, row-major
/// where none are given). Copying a view copies no element; a default view is empty and means "not given".
template <class Shape, class T, class Device = cpu>
class view {
 public:
  using shape_type = Shape;
  using element_type = T;
  using value_type = std::remove_const_t<T>;
  using device_type = Device;
  static constexpr std::size_t rank = Shape::rank;
  using indices = std::array<std::int64_t, rank>;

  constexpr view() noexcept = default;

  /// A dense row-major view of `shape.size()` elements at `data`.
  LIGHTNET_HOST_DEVICE constexpr view(T* data, const Shape& shape) noexcept : data_{data}, shape_{shape} {
    std::int64_t stride = 1;
    for (std::size_t axis = rank; axis-- > 0;) {
      strides_[axis] = stride;
      stride *= shape_[axis];
    }
  }

  /// A view with a stride, in elements, for each axis.
  constexpr view(T* data, const Shape& shape, const indices& strides) noexcept
      : data_{data}, shape_{shape}, strides_{strides} {}

  /// From a view of mutable elements, or of extents known at compile time; throws shape_error where static extents
  /// differ.
  template <class OtherShape, class U>
    requires(OtherShape::rank == rank && std::is_convertible_v<U (*)[], T (*)[]>)
  constexpr view(const view<OtherShape, U, Device>& other)  // NOLINT(google-explicit-constructor): as std::span
      : data_{other.data()}, shape_{other.extents()}, strides_{other.strides()} {}

  LIGHTNET_HOST_DEVICE constexpr T* data() const noexcept { return data_; }
  constexpr indices extents() const noexcept { return shape_.array(); }
  constexpr indices strides() const noexcept { return strides_; }
  LIGHTNET_HOST_DEVICE constexpr std::int64_t extent(std::size_t axis) const noexcept { return shape_[axis]; }
  LIGHTNET_HOST_DEVICE constexpr std::int64_t stride(std::size_t axis) const noexcept { return strides_[axis]; }
  LIGHTNET_HOST_DEVICE constexpr std::int64_t size() const noexcept { return shape_.size(); }

  /// Whether an argument was given at all.
  LIGHTNET_HOST_DEVICE constexpr explicit operator bool() const noexcept { return data_ != nullptr; }

  template <class... Index>
    requires(sizeof...(Index) == rank && (std::is_convertible_v<Index, std::int64_t> && ...))
  LIGHTNET_HOST_DEVICE constexpr T& operator()(Index... index) const noexcept {
    const std::int64_t at[] = {static_cast<std::int64_t>(index)..., 0};
    std::int64_t offset = 0;
    for (std::size_t axis = 0; axis < rank; ++axis) offset += at[axis] * strides_[axis];
    return data_[offset];
  }

  /// Whether the elements lie densely in row-major order.
  LIGHTNET_HOST_DEVICE constexpr bool contiguous() const noexcept {
    std::int64_t stride = 1;
    for (std::size_t axis = rank; axis-- > 0;) {
      if (shape_[axis] != 1 && strides_[axis] != stride) return size() == 0;
      stride *= shape_[axis];
    }
    return true;
  }

  /// Whether elements share a place because an axis of several has the stride 0: fine to read, not to write.
  LIGHTNET_HOST_DEVICE constexpr bool repeats() const noexcept {
    bool repeated = false;
    for (std::size_t axis = 0; axis < rank; ++axis) repeated = repeated || (shape_[axis] > 1 && strides_[axis] == 0);
    return repeated && size() > 0;
  }

  /// The part [first, first + count) of one axis. Throws shape_error where that is outside.
  constexpr view<lightnet::rank<static_cast<int>(rank)>, T, Device> slice(std::size_t axis, std::int64_t first,
                                                                          std::int64_t count) const {
    if (axis >= rank || first < 0 || count < 0 || first > shape_[axis] - count) {
      throw shape_error(
          "view::slice", "range", "a part of axis " + std::to_string(axis) + " of " + describe(),
          "[" + std::to_string(first) + ", " + std::to_string(first) + " + " + std::to_string(count) + ")");
    }
    indices shape = shape_.array();
    shape[axis] = count;
    return {data_ + first * strides_[axis], shape, strides_};
  }

  /// The same elements with one axis walked backwards.
  constexpr view<lightnet::rank<static_cast<int>(rank)>, T, Device> reverse(std::size_t axis) const {
    if (axis >= rank) {
      throw shape_error("view::reverse", "axis", "less than " + std::to_string(rank), std::to_string(axis));
    }
    indices strides = strides_;
    strides[axis] = -strides[axis];
    const std::int64_t last = shape_[axis] > 0 ? shape_[axis] - 1 : 0;
    return {data_ + last * strides_[axis], shape_.array(), strides};
  }

  /// The same elements under other extents. Throws shape_error unless dense and of the same size.
  template <std::size_t Rank>
  constexpr view<lightnet::rank<static_cast<int>(Rank)>, T, Device> reshape(
      const std::array<std::int64_t, Rank>& shape) const {
    const lightnet::rank<static_cast<int>(Rank)> wanted{shape};
    if (!contiguous() || wanted.size() != size()) {
      throw shape_error("view::reshape", "shape", "as many elements as the dense view " + describe(),
                        detail::bracketed(shape));
    }
    return {data_, wanted};
  }

  /// "[2, 3] with strides [3, 1]", for error messages.
  std::string describe() const {
    return detail::bracketed(shape_.array()) + (contiguous() ? "" : " with strides " + detail::bracketed(strides_));
  }

 private:
  T* data_ = nullptr;
  Shape shape_{};
  detail::small_array<rank> strides_{};
};

/// A view of the given rank whose extents are all known at run time.
template <int Rank, class T, class Device = cpu>
using dynamic_view = view<rank<Rank>, T, Device>;

LIGHTNET_END_NAMESPACE
