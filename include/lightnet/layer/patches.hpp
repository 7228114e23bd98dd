// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/parallel.hpp>
#include <lightnet/core/sequence.hpp>
#include <lightnet/layer/modes.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// Cuts M-dimensional images into patches: [B, s_1..s_M, channels] to [B, s_1/Side..s_M/Side, Side^M channels], the
/// elements of a patch in the order of the image. No parameters.
template <int Side, int Dims, class T = float, class Device = cpu>
struct patches {
  static_assert(Side >= 1, "lightnet: a patch has a side of 1 or more");
  using image_view = dynamic_view<Dims + 2, T, Device>;
  using const_image_view = dynamic_view<Dims + 2, const T, Device>;

  /// The numbers of a patch.
  static constexpr std::int64_t width(std::int64_t channels) noexcept {
    for (int axis = 0; axis < Dims; ++axis) channels *= Side;
    return channels;
  }

  /// The grid of patches. Throws shape_error where Side does not divide an extent.
  static grid<Dims> grid_of(const const_image_view& images) {
    grid<Dims> where;
    for (std::size_t axis = 0; axis < Dims; ++axis) {
      if (images.extent(axis + 1) % Side != 0) {
        throw shape_error("patches", "images", "extents that are multiples of " + std::to_string(Side),
                          images.describe());
      }
      where.extents[axis] = images.extent(axis + 1) / Side;
    }
    return where;
  }

  /// y [B N, width(channels)] from images of any strides.
  void forward(execution<Device>& on, const const_image_view& images, const dynamic_view<2, T, Device>& y) const {
    walk(on, images, y, [](const T& pixel, T& element) { element = pixel; });
  }

  /// dimages from dy.
  template <write Write = write::overwrite>
  void backward(execution<Device>& on, const image_view& dimages, const dynamic_view<2, const T, Device>& dy) const {
    walk(on, dimages, dy, [](T& pixel, const T& element) { pixel = Write == write::add ? pixel + element : element; });
  }

 private:
  template <class Pixel, class Element, class Move>
  static void walk(execution<Device>& on, const dynamic_view<Dims + 2, Pixel, Device>& images,
                   const dynamic_view<2, Element, Device>& rows, const Move& move) {
    const grid<Dims> where = grid_of(images);
    const std::int64_t channels = images.extent(Dims + 1), cells = where.size();
    grid<Dims> inside;
    inside.extents.fill(Side);
    detail::parallel_for(on, images.extent(0), [&](std::int64_t b, int) {
      for (std::int64_t cell = 0; cell < cells; ++cell) {
        const auto corner = where.coordinates(cell);
        Element* element = rows.data() + (b * cells + cell) * rows.stride(0);
        for (std::int64_t place = 0; place < inside.size(); ++place) {
          const auto at = inside.coordinates(place);
          Pixel* pixel = images.data() + b * images.stride(0);
          for (std::size_t axis = 0; axis < Dims; ++axis) {
            pixel += (corner[axis] * Side + at[axis]) * images.stride(axis + 1);
          }
          for (std::int64_t c = 0; c < channels; ++c) move(pixel[c * images.stride(Dims + 1)], *element++);
        }
      }
    });
  }
};

LIGHTNET_END_NAMESPACE
