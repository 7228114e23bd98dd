// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdio>
#include <exception>
#include <filesystem>
#include <initializer_list>
#include <lightnet/core/error.hpp>
#include <lightnet/io/replace_file.hpp>
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

/// Throws lightnet::file_error where a program could not leave its files NAME and an ending in a folder, which need not be there
/// yet; changes nothing.
inline void check_output(const std::filesystem::path& folder, const std::string& name,
                         std::initializer_list<const char*> endings) {
  std::error_code failed;
  const auto exists = [&](const auto& path) { return std::filesystem::exists(symlink_status(path, failed)); };
  if (std::filesystem::is_directory(folder, failed)) {
    for (const auto* ending : endings) lightnet::check_replaceable(folder / (name + ending));
  } else if (exists(folder)) {
    throw lightnet::file_error(folder.string(), "is no folder, expected one for what the program leaves");
  } else {
    auto first = folder;  // that has to be made
    while (first.has_parent_path() && !exists(first.parent_path())) first = first.parent_path();
    lightnet::check_replaceable(first);
  }
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
