// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdio>
#include <exception>
#include <filesystem>
#include <lightnet/core/error.hpp>
#include <new>
#include <string>
#include <system_error>

namespace examples {

/// The folder of the running program.
inline std::filesystem::path program_folder(const char* called_as) {
  std::error_code failed;
  auto self = std::filesystem::read_symlink("/proc/self/exe", failed);
  if (failed) self = called_as;
  return self.has_parent_path() ? self.parent_path() : std::filesystem::path(".");
}

/// A folder for what the program leaves. Throws lightnet::file_error where it cannot be made.
inline std::filesystem::path output_folder(const std::string& path) {
  std::error_code failed;
  std::filesystem::create_directories(path, failed);
  if (failed) throw lightnet::file_error(path, "cannot be made a folder: " + failed.message());
  return path;
}

/// Runs the body of a main and gives its exit code: 2 after an error, which is printed.
template <class Body>
int exit_code_of(const Body& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "not enough memory\n");
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}

}  // namespace examples
