// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/for_each.hpp>
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
    walk<take>("patches::forward", "y", on, images, y);
  }

  /// dimages, overwritten or added to, from dy.
  template <write Write = write::overwrite>
  void backward(execution<Device>& on, const image_view& dimages, const dynamic_view<2, const T, Device>& dy) const {
    walk<give<Write>>("patches::backward", "dy", on, dimages, dy);
  }

  // What the backend calls is public, for nvcc makes no kernel of a private type.
  struct take {
    LIGHTNET_HOST_DEVICE void operator()(const T& pixel, T& element) const noexcept { element = pixel; }
  };
  template <write Write>
  struct give {
    LIGHTNET_HOST_DEVICE void operator()(T& pixel, const T& element) const noexcept {
      pixel = Write == write::add ? static_cast<T>(pixel + element) : element;
    }
  };

  // The elements [first, last) of a row, line by line: a line of a patch is Side pixels along the last axis.
  template <class Move, class Pixel, class Element>
  struct patch {
    dynamic_view<Dims + 2, Pixel, Device> images;
    dynamic_view<2, Element, Device> rows;
    grid<Dims> where;

    LIGHTNET_HOST_DEVICE void operator()(std::int64_t row, std::int64_t first, std::int64_t last) const noexcept {
      const std::int64_t channels = images.extent(Dims + 1), line_width = Side * channels;
      const std::int64_t step = images.stride(Dims), channel_step = images.stride(Dims + 1);
      Pixel* corner = images.data();
      std::int64_t cell = row;
      for (std::size_t axis = Dims; axis-- > 0; cell /= where.extents[axis]) {
        corner += cell % where.extents[axis] * Side * images.stride(axis + 1);
      }
      corner += cell * images.stride(0);
      Element* element = rows.data() + row * rows.stride(0) + first;
      // Whole rows, which the CPU takes, start with a line.
      std::int64_t line = first > 0 ? first / line_width : 0, i = first > 0 ? first % line_width / channels : 0;
      std::int64_t c = first > 0 ? first % channels : 0;
      for (std::int64_t left = last - first; left > 0; ++line, i = 0) {
        Pixel* pixel = corner + i * step;
        std::int64_t rest = line;
        for (std::size_t axis = Dims - 1; axis > 0; --axis, rest /= Side) pixel += rest % Side * images.stride(axis);
        for (; i < Side && left > 0; ++i, pixel += step, c = 0) {
          const std::int64_t count = left < channels - c ? left : channels - c;
          for (std::int64_t n = 0; n < count; ++n) Move{}(pixel[(c + n) * channel_step], *element++);
          left -= count;
        }
      }
    }
  };

 private:
  template <class Move, class Pixel, class Element>
  static void walk(const char* operation, const char* argument, execution<Device>& on,
                   const dynamic_view<Dims + 2, Pixel, Device>& images, const dynamic_view<2, Element, Device>& rows) {
    const grid<Dims> where = grid_of(operation, images);
    const std::int64_t channels = images.extent(Dims + 1), count = images.extent(0) * where.size();
    if (!images) throw device_error(operation, "images", "a view of memory", "a null pointer");
    detail::layer_checker{operation}.matrix(argument, rows, count, width(channels));
    detail::check_reach(operation, "images", images);
    detail::for_each_row(on, operation, count, width(channels), patch<Move, Pixel, Element>{images, rows, where});
  }
};

LIGHTNET_END_NAMESPACE
