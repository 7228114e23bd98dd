// SPDX-License-Identifier: Apache-2.0
#pragma once

// A file is replaced whole or not at all: whoever opens it, at any moment and after any crash, finds the old or the
// new contents. POSIX only.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <lightnet/core/config.hpp>
#include <lightnet/core/error.hpp>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

LIGHTNET_BEGIN_NAMESPACE

namespace io_detail {

/// Throws a file_error that says what failed, and why according to errno.
[[noreturn]] inline void throw_errno(const std::filesystem::path& path, std::string_view failed) {
  const int code = errno;
  throw file_error(path.string(), std::string{failed}.append(": ").append(std::generic_category().message(code)));
}

/// Owns a file descriptor; -1 is none.
class file_descriptor {
 public:
  explicit file_descriptor(int value) noexcept : value_(value) {}
  file_descriptor(file_descriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
  file_descriptor& operator=(file_descriptor&& other) noexcept {
    std::swap(value_, other.value_);
    return *this;
  }
  ~file_descriptor() { close(); }

  [[nodiscard]] int get() const noexcept { return value_; }
  /// Says whether the system took everything: some file systems report a failed write only here.
  bool close() noexcept {
    const int value = std::exchange(value_, -1);
    return value < 0 || ::close(value) == 0 || errno == EINTR;
  }

 private:
  int value_;
};

/// A new file next to `target`, removed again unless `keep` is called.
class temporary_file {
 public:
  explicit temporary_file(const std::filesystem::path& target) : descriptor_(-1) {
    static std::atomic<unsigned> serial{0};
    do {
      // Short, whatever the target is called: a long name plus a suffix may be more than the file system takes.
      path_ = target.parent_path() /
              (".lightnet-" + std::to_string(::getpid()) + "-" + std::to_string(serial++) + ".temporary");
      descriptor_ = file_descriptor(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    } while (descriptor_.get() < 0 && errno == EEXIST);
    if (descriptor_.get() < 0) throw_errno(target, "cannot create a temporary file beside it");
  }
  temporary_file(const temporary_file&) = delete;
  temporary_file& operator=(const temporary_file&) = delete;
  ~temporary_file() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  [[nodiscard]] file_descriptor& descriptor() noexcept { return descriptor_; }
  void keep() noexcept { path_.clear(); }

 private:
  std::filesystem::path path_;
  file_descriptor descriptor_;
};

/// False, with errno set, where not every byte could be written.
inline bool write_all(int descriptor, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto written = ::write(descriptor, bytes.data(), bytes.size());
    if (written > 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    } else if (written == 0 || errno != EINTR) {
      if (written == 0) errno = EIO;
      return false;
    }
  }
  return true;
}

/// Where the file lies that a path names, to be replaced or made. Throws file_error where that is no regular file.
inline std::filesystem::path replaceable(const std::filesystem::path& path) {
  std::error_code failed;
  auto target = path;
  if (std::filesystem::is_symlink(path, failed)) {
    target = std::filesystem::weakly_canonical(path, failed);
    if (failed) throw file_error(path.string(), "cannot follow the link: " + failed.message());
  }
  const auto status = std::filesystem::status(target, failed);
  if (std::filesystem::is_directory(status)) throw file_error(path.string(), "cannot be written: it is a directory");
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) {
    throw file_error(path.string(), "cannot be written: it is not a regular file");
  }
  return target;
}

}  // namespace io_detail

/// Throws file_error where `replace_file` would, before there is anything to write; changes nothing.
inline void check_replaceable(const std::filesystem::path& path) {
  const io_detail::temporary_file probe(io_detail::replaceable(path));
}

/// Replaces the contents of `path` by `pieces` in order: a temporary file in the same folder is written, flushed to the
/// disk and renamed over it. A symbolic link keeps pointing where it does, an existing file keeps its permissions.
/// Throws file_error; then the temporary is gone and the old file is as it was.
inline void replace_file(const std::filesystem::path& path, std::span<const std::span<const std::byte>> pieces) {
  const auto target = io_detail::replaceable(path);
  io_detail::temporary_file temporary(target);
  const int descriptor = temporary.descriptor().get();
  for (const auto piece : pieces) {
    if (!io_detail::write_all(descriptor, piece)) io_detail::throw_errno(path, "cannot be written");
  }
  struct ::stat old {};
  if (::stat(target.c_str(), &old) == 0 && ::fchmod(descriptor, old.st_mode & 07777) != 0) {
    io_detail::throw_errno(path, "cannot set permissions");
  }
  if (::fsync(descriptor) != 0) io_detail::throw_errno(path, "cannot be flushed to the disk");
  if (!temporary.descriptor().close()) io_detail::throw_errno(path, "cannot be closed");
  if (std::rename(temporary.path().c_str(), target.c_str()) != 0) io_detail::throw_errno(path, "cannot be replaced");
  temporary.keep();

  // The new name reaches the disk with its folder. From here on the file is replaced, so nothing is an error any more.
  const auto folder = target.has_parent_path() ? target.parent_path() : std::filesystem::path(".");
  const io_detail::file_descriptor opened(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (opened.get() >= 0) (void)::fsync(opened.get());
}

/// The same for contents that lie in one piece.
inline void replace_file(const std::filesystem::path& path, std::span<const std::byte> contents) {
  replace_file(path, std::span<const std::span<const std::byte>>(&contents, 1));
}

/// The same for text.
inline void replace_file(const std::filesystem::path& path, std::string_view text) {
  replace_file(path, std::as_bytes(std::span(text)));
}

LIGHTNET_END_NAMESPACE
