// SPDX-License-Identifier: Apache-2.0
#pragma once

// Reads a gzip file piece by piece. zlib's own gzread passes plain files through and ignores what follows the stream;
// this reader refuses both.

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <lightnet/core/error.hpp>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace examples {

/// The contents of a gzip file from front to back; everything wrong with it is a lightnet::file_error.
class gzip_reader {
 public:
  explicit gzip_reader(std::filesystem::path path) : path_(std::move(path)), file_(std::fopen(path_.c_str(), "rb")) {
    if (file_ == nullptr) fail_errno("cannot be opened");
    if (::inflateInit2(&stream_, 16 + MAX_WBITS) != Z_OK) fail("zlib cannot be started");
  }
  gzip_reader(const gzip_reader&) = delete;
  gzip_reader& operator=(const gzip_reader&) = delete;
  ~gzip_reader() { ::inflateEnd(&stream_); }

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

  /// Fills `to` as far as the contents go and returns how many bytes that were.
  std::size_t read(std::span<std::uint8_t> to) {
    std::size_t count = 0;
    while (count < to.size() && !ended_) {
      // zlib counts in 32 bits.
      const auto piece = to.subspan(count).first(std::min(to.size() - count, std::size_t{1} << 20U));
      stream_.next_out = piece.data();
      stream_.avail_out = static_cast<uInt>(piece.size());
      inflate();
      count += piece.size() - stream_.avail_out;
    }
    return count;
  }

  [[noreturn]] void fail(const std::string& reason) const { throw lightnet::file_error(path_.string(), reason); }

 private:
  struct closer {
    void operator()(std::FILE* file) const noexcept { std::fclose(file); }
  };

  [[noreturn]] void fail_errno(const std::string& failed) const {
    const int code = errno;
    fail(failed + ": " + std::generic_category().message(code));
  }

  /// Loads more of the file where zlib has used up what it had; false at the end of the file.
  bool load() {
    if (stream_.avail_in > 0) return true;
    const auto count = std::fread(input_.data(), 1, input_.size(), file_.get());
    if (count < input_.size() && std::ferror(file_.get()) != 0) fail_errno("cannot be read");
    stream_.next_in = input_.data();
    stream_.avail_in = static_cast<uInt>(count);
    return count > 0;
  }

  void inflate() {
    if (!load()) fail(begun_ ? "the gzip stream is cut short" : "is empty, expected a gzip file");
    if (!begun_ && input_[0] != 0x1f) fail("is not a gzip file");
    begun_ = true;
    const int status = ::inflate(&stream_, Z_NO_FLUSH);
    if (status == Z_STREAM_END) {
      ended_ = true;
      if (load()) fail("has bytes behind the end of the gzip stream");
    } else if (status == Z_DATA_ERROR) {
      const std::string said = stream_.msg == nullptr ? "invalid data" : stream_.msg;
      if (said == "incorrect header check") fail("is not a gzip file");
      fail("the gzip stream is damaged: " + said);
    } else if (status != Z_OK && status != Z_BUF_ERROR) {
      fail("zlib fails with code " + std::to_string(status));
    }
  }

  std::filesystem::path path_;
  std::unique_ptr<std::FILE, closer> file_;
  z_stream stream_{};
  std::array<std::uint8_t, 65536> input_{};
  bool begun_ = false;
  bool ended_ = false;
};

/// Exactly the `size` bytes that a header of that format announces, up to the end of the contents. Memory grows with what
/// comes, not with what the header claims.
inline std::vector<std::uint8_t> announced_contents(gzip_reader& reader, std::uint64_t size,
                                                    const std::string& format) {
  constexpr std::uint64_t step = std::uint64_t{1} << 22U;
  const auto announced = std::to_string(size) + " bytes that the " + format + " header announces";
  std::vector<std::uint8_t> bytes;
  while (bytes.size() < size) {
    const auto have = bytes.size();
    const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(step, size - have));
    bytes.resize(have + wanted);
    const auto came = reader.read(std::span(bytes).subspan(have));
    if (came < wanted) reader.fail("contents end after " + std::to_string(have + came) + " of the " + announced);
  }
  std::array<std::uint8_t, 1> more{};
  if (reader.read(more) != 0) reader.fail("has trailing bytes behind the " + announced);
  return bytes;
}

}  // namespace examples
