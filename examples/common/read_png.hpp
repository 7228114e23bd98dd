// SPDX-License-Identifier: Apache-2.0
#pragma once

// Pictures from PNG files.

#include <png.h>

#include <cstdint>
#include <lightnet/core/error.hpp>
#include <string>
#include <vector>

namespace examples {

/// The pixels of a picture of this size, a byte of grey each, row by row. Throws lightnet::file_error where the file is none, or
/// one of another size.
inline std::vector<std::uint8_t> read_grey_png(const std::string& path, int width, int height) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  const auto fail = [&] {
    throw lightnet::file_error(path, std::string{"cannot be read as a PNG file: "} + image.message);
  };
  if (!png_image_begin_read_from_file(&image, path.c_str())) fail();
  const auto size = [](auto w, auto h) { return std::to_string(w) + " x " + std::to_string(h); };
  if (size(image.width, image.height) != size(width, height)) {
    png_image_free(&image);
    throw lightnet::file_error(path,
                               "has " + size(image.width, image.height) + " pixels, expected " + size(width, height));
  }
  image.format = PNG_FORMAT_GRAY;
  std::vector<std::uint8_t> pixels(PNG_IMAGE_SIZE(image));
  if (!png_image_finish_read(&image, nullptr, pixels.data(), 0, nullptr)) fail();
  return pixels;
}

}  // namespace examples
