// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/parallel.hpp>
#include <lightnet/core/layer_check.hpp>
#include <lightnet/core/modes.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// Cuts M-dimensional images into patches: [B, s_1..s_M, channels] to [B, s_1/Side..s_M/Side, Side^M channels], the
/// elements of a patch in the order of the image. No parameters. Throws device_error or shape_error before anything is
/// written.
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

  /// The grid of patches. Throws shape_error, on behalf of an operation, where Side does not divide an extent.
  static grid<Dims> grid_of(const char* operation, const const_image_view& images) {
    grid<Dims> where;
    for (std::size_t axis = 0; axis < Dims; ++axis) {
      if (images.extent(axis + 1) % Side != 0) {
        throw shape_error(operation, "images", "extents that are multiples of " + std::to_string(Side),
                          images.describe());
      }
      where.extents[axis] = images.extent(axis + 1) / Side;
    }
    return where;
  }

  /// y [B N, width(channels)] from images of any strides.
  void forward(execution<Device>& on, const const_image_view& images, const dynamic_view<2, T, Device>& y) const {
    walk("patches::forward", "y", on, images, y, [](const T& pixel, T& element) { element = pixel; });
  }

  /// dimages, overwritten or added to, from dy.
  template <write Write = write::overwrite>
  void backward(execution<Device>& on, const image_view& dimages, const dynamic_view<2, const T, Device>& dy) const {
    walk("patches::backward", "dy", on, dimages, dy,
         [](T& pixel, const T& element) { pixel = Write == write::add ? pixel + element : element; });
  }

 private:
  template <class Pixel, class Element, class Move>
  static void walk(const char* operation, const char* argument, execution<Device>& on,
                   const dynamic_view<Dims + 2, Pixel, Device>& images, const dynamic_view<2, Element, Device>& rows,
                   const Move& move) {
    const grid<Dims> where = grid_of(operation, images);
    const std::int64_t channels = images.extent(Dims + 1), cells = where.size();
    if (!images) throw device_error(operation, "images", "a view of memory", "a null pointer");
    detail::layer_checker{operation}.matrix(argument, rows, images.extent(0) * cells, width(channels));
    std::int64_t lines = 1;
    for (int axis = 1; axis < Dims; ++axis) lines *= Side;
    detail::parallel_for(on, images.extent(0), [&](std::int64_t b, int) {
      for (std::int64_t cell = 0; cell < cells; ++cell) {
        const auto at = where.coordinates(cell);
        Pixel* corner = images.data() + b * images.stride(0);
        for (std::size_t axis = 0; axis < Dims; ++axis) corner += at[axis] * Side * images.stride(axis + 1);
        Element* element = rows.data() + (b * cells + cell) * rows.stride(0);
        for (std::int64_t line = 0; line < lines; ++line) {
          Pixel* pixel = corner;
          for (std::int64_t axis = Dims - 1, rest = line; axis > 0; --axis, rest /= Side) {
            pixel += rest % Side * images.stride(static_cast<std::size_t>(axis));
          }
          for (int i = 0; i < Side; ++i, pixel += images.stride(Dims)) {
            for (std::int64_t c = 0; c < channels; ++c) move(pixel[c * images.stride(Dims + 1)], *element++);
          }
        }
      }
    });
  }
};

LIGHTNET_END_NAMESPACE
