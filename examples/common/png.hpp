// SPDX-License-Identifier: Apache-2.0
#pragma once

// Pictures as PNG files.

#include <png.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <lightnet/core/error.hpp>
#include <lightnet/io/replace_file.hpp>
#include <span>
#include <string>
#include <vector>

namespace examples {

/// Replaces the file by a picture of so many bytes a pixel: one of grey, or three of sRGB. Throws lightnet::shape_error, or
/// file_error where the file cannot be written, and then leaves the old one as it was.
inline void write_png(const std::filesystem::path& path, int width, int height, int channels,
                      std::span<const std::uint8_t> pixels) {
  const bool known = channels == 1 || channels == 3;
  if (width < 1 || height < 1 || !known ||
      pixels.size() !=
          static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * static_cast<std::size_t>(channels)) {
    throw lightnet::shape_error("write_png", "pixels", "width times height times 1 or 3 bytes, of none zero",
                                std::to_string(pixels.size()) + " bytes for " + std::to_string(width) + " times " +
                                    std::to_string(height) + " times " + std::to_string(channels));
  }
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(width);
  image.height = static_cast<png_uint_32>(height);
  image.format = channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  // The picture is small, and in memory no error of the disk can come through libpng's C.
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(image);
  std::vector<std::byte> encoded(size);
  if (png_image_write_to_memory(&image, encoded.data(), &size, 0, pixels.data(), 0, nullptr) == 0) {
    const std::string reason = image.message;
    png_image_free(&image);
    throw lightnet::file_error(path.string(), "libpng cannot encode the picture: " + reason);
  }
  lightnet::replace_file(path, std::span<const std::byte>(encoded).first(size));
}

}  // namespace examples
