// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/grid.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// The argument type of queries, keys, values and outputs: a view [B, n_1, ..., n_M, H, d], or [B, N, H, d] with the
/// tokens of a grid flattened. Any strides.
template <int Dims, class T, class Device = cpu>
class head_sequence {
 public:
  head_sequence() noexcept = default;

  template <class Shape, class U>
    requires(Shape::rank == Dims + 3 && std::is_convertible_v<U (*)[], T (*)[]>)
  head_sequence(const view<Shape, U, Device>& from)  // NOLINT(google-explicit-constructor): an argument type
      : head_sequence(from, Dims) {}

  template <class Shape, class U>
    requires(Dims != 1 && Shape::rank == 4 && std::is_convertible_v<U (*)[], T (*)[]>)
  head_sequence(const view<Shape, U, Device>& from)  // NOLINT(google-explicit-constructor): an argument type
      : head_sequence(from, 1) {}

  /// From a sequence of mutable elements.
  template <class U>
    requires(!std::is_same_v<U, T> && std::is_convertible_v<U (*)[], T (*)[]>)
  // NOLINTNEXTLINE(google-explicit-constructor): as a view
  head_sequence(const head_sequence<Dims, U, Device>& from)
  noexcept
      : data_{from.data_},
        batch_{from.batch_},
        heads_{from.heads_},
        channels_{from.channels_},
        batch_stride_{from.batch_stride_},
        head_stride_{from.head_stride_},
        channel_stride_{from.channel_stride_},
        token_stride_{from.token_stride_},
        extents_{from.extents_},
        strides_{from.strides_},
        axes_{from.axes_} {}

  LIGHTNET_HOST_DEVICE explicit operator bool() const noexcept { return data_ != nullptr; }
  LIGHTNET_HOST_DEVICE std::int64_t batch() const noexcept { return batch_; }
  LIGHTNET_HOST_DEVICE std::int64_t heads() const noexcept { return heads_; }
  LIGHTNET_HOST_DEVICE std::int64_t channels() const noexcept { return channels_; }
  LIGHTNET_HOST_DEVICE std::int64_t channel_stride() const noexcept { return channel_stride_; }

  /// The number of tokens, N.
  LIGHTNET_HOST_DEVICE std::int64_t tokens() const noexcept {
    std::int64_t product = 1;
    for (int axis = 0; axis < axes_; ++axis) product *= extents_[static_cast<std::size_t>(axis)];
    return product;
  }

  /// Whether the grid's own axes were given, and so its extents are known.
  LIGHTNET_HOST_DEVICE bool gridded() const noexcept { return axes_ == Dims; }
  LIGHTNET_HOST_DEVICE const typename grid<Dims>::indices& extents() const noexcept { return extents_; }

  /// Whether elements share a place because an axis of several has the stride 0: fine to read, not to write.
  LIGHTNET_HOST_DEVICE bool repeats() const noexcept {
    bool repeated = (batch_ > 1 && batch_stride_ == 0) || (heads_ > 1 && head_stride_ == 0) ||
                    (channels_ > 1 && channel_stride_ == 0);
    for (std::size_t axis = 0; axis < static_cast<std::size_t>(axes_); ++axis) {
      repeated = repeated || (extents_[axis] > 1 && strides_[axis] == 0);
    }
    return repeated && batch_ * tokens() * heads_ * channels_ > 0;
  }

  /// The first channel of token t of sequence b and head h.
  LIGHTNET_HOST_DEVICE T* token(std::int64_t b, std::int64_t h, std::int64_t t) const noexcept {
    T* at = data_ + b * batch_stride_ + h * head_stride_;
    if (token_stride_ != scattered) return at + t * token_stride_;
    LIGHTNET_DO_NOT_UNROLL
    for (std::size_t axis = static_cast<std::size_t>(axes_); axis-- > 0;) {
      at += t % extents_[axis] * strides_[axis];
      t /= extents_[axis];
    }
    return at;
  }

  /// Whether one stride takes from each token to the next; then `stride` is that.
  LIGHTNET_HOST_DEVICE bool evenly_spaced(std::int64_t& stride) const noexcept {
    if (token_stride_ == scattered) return false;
    stride = token_stride_;
    return true;
  }

  /// Channels [first, first + count) of every token.
  head_sequence slice_channels(std::int64_t first, std::int64_t count) const noexcept {
    head_sequence part = *this;
    if (data_ != nullptr) part.data_ += first * channel_stride_;
    part.channels_ = count;
    return part;
  }

  /// "[2, 5, 7, 3, 4]", for error messages.
  std::string describe() const {
    std::string text = "[" + std::to_string(batch_);
    for (int axis = 0; axis < axes_; ++axis) text += ", " + std::to_string(extents_[static_cast<std::size_t>(axis)]);
    return text + ", " + std::to_string(heads_) + ", " + std::to_string(channels_) + "]";
  }

 private:
  template <int, class, class>
  friend class head_sequence;

  static constexpr std::int64_t scattered = INT64_MIN;

  template <class Shape, class U>
  head_sequence(const view<Shape, U, Device>& from, int axes) noexcept
      : data_{from.data()},
        batch_{from.extent(0)},
        heads_{from.extent(Shape::rank - 2)},
        channels_{from.extent(Shape::rank - 1)},
        batch_stride_{from.stride(0)},
        head_stride_{from.stride(Shape::rank - 2)},
        channel_stride_{from.stride(Shape::rank - 1)},
        axes_{axes} {
    for (std::size_t axis = 0; axis < static_cast<std::size_t>(axes); ++axis) {
      extents_[axis] = from.extent(axis + 1);
      strides_[axis] = from.stride(axis + 1);
    }
    // One stride serves all tokens where each axis steps over the whole of the next.
    std::int64_t whole = 0;
    bool first = true;
    for (std::size_t axis = static_cast<std::size_t>(axes); axis-- > 0;) {
      if (extents_[axis] == 1) continue;
      if (first) {
        token_stride_ = strides_[axis];
        whole = strides_[axis];
        first = false;
      } else if (strides_[axis] != whole) {
        token_stride_ = scattered;
        return;
      }
      whole *= extents_[axis];
    }
  }

  T* data_ = nullptr;
  std::int64_t batch_ = 0, heads_ = 0, channels_ = 0;
  std::int64_t batch_stride_ = 0, head_stride_ = 0, channel_stride_ = 0, token_stride_ = 0;
  typename grid<Dims>::indices extents_{}, strides_{};
  int axes_ = 0;
};

LIGHTNET_END_NAMESPACE
