// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <system_error>

namespace examples {

/// The folder of the running program.
inline std::filesystem::path program_folder(const char* called_as) {
  std::error_code failed;
  auto self = std::filesystem::read_symlink("/proc/self/exe", failed);
  if (failed) self = called_as;
  return self.has_parent_path() ? self.parent_path() : std::filesystem::path(".");
}

}  // namespace examples
