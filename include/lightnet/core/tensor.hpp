// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/view.hpp>

#include <utility>

LIGHTNET_BEGIN_NAMESPACE

/// Dense row-major elements in memory of a device, owned and aligned to 64 bytes. A new tensor is zero.
template <class Shape, class T, class Device = cpu>
class tensor {
  static_assert(std::is_trivially_copyable_v<T>, "a tensor holds plain numbers");

 public:
  using shape_type = Shape;
  using indices = std::array<std::int64_t, Shape::rank>;

  tensor() noexcept = default;

  /// Allocates and clears. Throws shape_error for a negative extent and std::bad_alloc.
  explicit tensor(const Shape& shape) { resize(shape); }

  tensor(const tensor& other) : tensor(other.shape_) {
    if (other.data_) Device::copy(data_, other.data_, bytes(size()));
  }
  tensor(tensor&& other) noexcept { swap(other); }
  tensor& operator=(tensor other) noexcept {
    swap(other);
    return *this;
  }
  ~tensor() { Device::deallocate(data_); }

  /// Takes other extents and clears; allocates only where the old memory is too small.
  void resize(const Shape& shape) {
    if (!data_ || shape.size() > capacity_) {
      T* const grown = static_cast<T*>(Device::allocate(bytes(shape.size())));
      Device::deallocate(data_);
      data_ = grown;
      capacity_ = shape.size();
    }
    shape_ = shape;
    Device::clear(data_, bytes(size()));
  }

  T* data() noexcept { return data_; }
  const T* data() const noexcept { return data_; }
  indices extents() const noexcept { return shape_.array(); }
  std::int64_t extent(std::size_t axis) const noexcept { return shape_[axis]; }
  std::int64_t size() const noexcept { return shape_.size(); }

  lightnet::view<Shape, T, Device> view() noexcept { return {data_, shape_}; }
  lightnet::view<Shape, const T, Device> view() const noexcept { return {data_, shape_}; }

 private:
  static std::size_t bytes(std::int64_t count) { return static_cast<std::size_t>(count) * sizeof(T); }

  void swap(tensor& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(shape_, other.shape_);
    std::swap(capacity_, other.capacity_);
  }

  T* data_ = nullptr;
  Shape shape_{};
  std::int64_t capacity_ = 0;
};

LIGHTNET_END_NAMESPACE
