// SPDX-License-Identifier: Apache-2.0
#pragma once

// A file as memory: the system brings in what is read, when it is read, and drops it again where memory is short. POSIX
// only.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <lightnet/core/config.hpp>
#include <lightnet/core/error.hpp>
#include <lightnet/io/replace_file.hpp>
#include <limits>
#include <span>
#include <utility>

LIGHTNET_BEGIN_NAMESPACE

/// The bytes of a file, for reading. They stay what they are when the file is replaced, as replace_file does it; a program
/// that shortens the file in place, however, ends the one that reads it. Throws file_error for what is no regular file, or
/// cannot be opened or mapped.
class mapped_file {
 public:
  explicit mapped_file(const std::filesystem::path& path) {
    const auto fail = [&](const char* reason) { throw file_error(path.string(), reason); };
    // Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
    const io_detail::file_descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (file.get() < 0) io_detail::throw_errno(path, "cannot be opened");
    struct ::stat status {};
    if (::fstat(file.get(), &status) != 0) io_detail::throw_errno(path, "cannot be examined");
    if (S_ISDIR(status.st_mode)) fail("cannot be read: it is a directory");
    if (!S_ISREG(status.st_mode)) fail("cannot be read: it is not a regular file");
    const auto size = static_cast<std::uint64_t>(status.st_size);
    if (size > std::numeric_limits<std::size_t>::max()) fail("cannot be mapped: it is larger than the address space");
    if (size == 0) return;  // which cannot be mapped
    void* const start = ::mmap(nullptr, static_cast<std::size_t>(size), PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (start == MAP_FAILED) io_detail::throw_errno(path, "cannot be mapped");
    bytes_ = {static_cast<const std::byte*>(start), static_cast<std::size_t>(size)};
  }
  mapped_file(mapped_file&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  mapped_file& operator=(mapped_file&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~mapped_file() {
    if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  }

  /// They live as long as this object, or what it was moved to.
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

LIGHTNET_END_NAMESPACE
