// SPDX-License-Identifier: Apache-2.0
#include "idx.hpp"

#include <doctest/doctest.h>
#include <zlib.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "../temporary_folder.hpp"

namespace fs = std::filesystem;

namespace {

/// A folder with a sound pair of files: three images of 2 x 5 pixels and their labels.
struct pair_of_files : folder {
  pair_of_files();

  /// What reading the pair throws; empty where it does not.
  [[nodiscard]] std::string refusal() const {
    try {
      (void)fashion_mnist::load_idx(images, labels);
    } catch (const lightnet::file_error& error) {
      return error.what();
    }
    return {};
  }

  fs::path images = *this / "images.gz", labels = *this / "labels.gz";
};

std::string numbers(std::initializer_list<std::uint32_t> values) {
  std::string bytes;
  for (const auto value : values) {
    for (const auto shift : {24U, 16U, 8U, 0U}) bytes += static_cast<char>(value >> shift & 255U);
  }
  return bytes;
}

void put(const fs::path& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  REQUIRE(file.good());
}

void put_gzip(const fs::path& path, std::string_view bytes) {
  const auto file = ::gzopen(path.c_str(), "wb");
  REQUIRE(file != nullptr);
  REQUIRE(::gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size())) == static_cast<int>(bytes.size()));
  REQUIRE(::gzclose(file) == Z_OK);
}

std::string pixels(std::size_t count) {
  std::string bytes;
  for (std::size_t i = 0; i < count; ++i) bytes += static_cast<char>(i * 37 % 256);
  return bytes;
}

pair_of_files::pair_of_files() {
  put_gzip(images, numbers({2051, 3, 2, 5}) + pixels(30));
  put_gzip(labels, numbers({2049, 3}) + std::string("\x09\x00\x04", 3));
}

void check_refused(const pair_of_files& here, const fs::path& file, std::string_view reason) {
  const auto message = here.refusal();
  CAPTURE(message);
  CAPTURE(reason);
  CHECK(message.find("lightnet: " + file.string() + ": ") == 0);
  CHECK(message.find(reason) != std::string::npos);
}

}  // namespace

TEST_CASE("idx: images and labels are read") {
  const pair_of_files here;
  const auto set = fashion_mnist::load_idx(here.images, here.labels);
  CHECK(set.count == 3);
  CHECK(set.rows == 2);
  CHECK(set.columns == 5);
  CHECK(set.labels == std::vector<std::int32_t>{9, 0, 4});
  REQUIRE(set.pixels.size() == 30);
  CHECK(set.pixels[29] == 29 * 37 % 256);
  CHECK(set.image(2)[0] == 20 * 37 % 256);
  CHECK(set.image(2).size() == 10);
}

TEST_CASE("idx: contents larger than every buffer are read") {
  const pair_of_files here;
  const auto bytes = pixels(std::size_t{3} * 1300 * 1700);
  put_gzip(here.images, numbers({2051, 3, 1300, 1700}) + bytes);
  const auto set = fashion_mnist::load_idx(here.images, here.labels);
  REQUIRE(set.pixels.size() == bytes.size());
  CHECK(std::equal(set.pixels.begin(), set.pixels.end(), bytes.begin(),
                   [](std::uint8_t a, char b) { return a == static_cast<std::uint8_t>(b); }));
}

TEST_CASE("idx: files that are not there or not gzip") {
  const pair_of_files here;
  fs::remove(here.labels);
  check_refused(here, here.labels, "cannot be opened: No such file or directory");
  fs::create_directory(here.labels);
  check_refused(here, here.labels, "cannot be read: Is a directory");
  fs::remove(here.labels);
  put(here.labels, "");
  check_refused(here, here.labels, "is empty");
  put(here.labels, numbers({2049, 3}) + "abc");
  check_refused(here, here.labels, "is not a gzip file");
  put(here.labels, "\x1fno");
  check_refused(here, here.labels, "is not a gzip file");
}

TEST_CASE("idx: a gzip stream that is damaged") {
  const pair_of_files here;
  const auto whole = contents(here.images);
  for (std::size_t length = 1; length < whole.size(); ++length) {
    CAPTURE(length);
    put(here.images, std::string_view(whole).substr(0, length));
    check_refused(here, here.images, "");
  }
  put(here.images, std::string_view(whole).substr(0, whole.size() - 5));
  check_refused(here, here.images, "the gzip stream is cut short");

  auto damaged = whole;
  damaged[whole.size() - 8] = static_cast<char>(~damaged[whole.size() - 8]);
  put(here.images, damaged);
  check_refused(here, here.images, "the gzip stream is damaged: incorrect data check");
  damaged = whole;
  damaged[whole.size() - 1] = 7;
  put(here.images, damaged);
  check_refused(here, here.images, "the gzip stream is damaged: incorrect length check");
  for (std::size_t i = 10; i < whole.size(); ++i) {  // behind the gzip header every byte counts
    CAPTURE(i);
    damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    put(here.images, damaged);
    check_refused(here, here.images, "");
  }
  put(here.images, whole + "x");
  check_refused(here, here.images, "bytes behind the end of the gzip stream");
}

TEST_CASE("idx: contents that are not what they say") {
  const pair_of_files here;
  put_gzip(here.images, numbers({2049, 3, 2, 5}) + pixels(30));
  check_refused(here, here.images, "wrong magic number 2049, expected 2051 for IDX images");
  put_gzip(here.images, "");
  check_refused(here, here.images, "contents end after 0 bytes, inside the IDX header");
  put_gzip(here.images, numbers({2051, 3, 2}) + "ab");
  check_refused(here, here.images, "contents end after 14 bytes, inside the IDX header");
  put_gzip(here.images, numbers({2051, 3, 2, 5}) + pixels(29));
  check_refused(here, here.images, "contents end after 29 of the 30 bytes");
  put_gzip(here.images, numbers({2051, 3, 2, 5}) + pixels(31));
  check_refused(here, here.images, "trailing bytes behind the 30");
  put_gzip(here.images, numbers({2051, 0, 2, 5}));
  check_refused(here, here.images, "holds nothing: 0 images of 2 x 5");
  put_gzip(here.images, numbers({2051, 3, 0, 5}));
  check_refused(here, here.images, "holds nothing");
  for (const auto& header : {numbers({2051, ~0U, ~0U, ~0U}), numbers({2051, 3, 1U << 31U, 1U << 31U}),
                             numbers({2051, 1U << 31U, 1U << 16U, 1U << 17U}), numbers({2051, 3, 28, 1U << 30U})}) {
    put_gzip(here.images, header + pixels(30));
    check_refused(here, here.images, "absurd size");
  }
  // As large as may be: refused for what is missing, without the memory for what was announced.
  put_gzip(here.images, numbers({2051, 3, 26754, 26754}) + pixels(30));
  check_refused(here, here.images, "contents end after 30 of the");

  const pair_of_files there;
  put_gzip(there.labels, numbers({2051, 3}) + "abc");
  check_refused(there, there.labels, "wrong magic number 2051, expected 2049 for IDX labels");
  put_gzip(there.labels, numbers({2049, 4}) + std::string(4, '\1'));
  check_refused(there, there.labels, "holds 4 labels, but " + there.images.string() + " holds 3 images of 2 x 5");
  put_gzip(there.labels, numbers({2049, 3}) + std::string(2, '\1'));
  check_refused(there, there.labels, "contents end after 2 of the 3 bytes");
  put_gzip(there.labels, numbers({2049, 3}) + std::string(4, '\1'));
  check_refused(there, there.labels, "trailing bytes behind the 3");
  put_gzip(there.labels, numbers({2049, 3}) + "\x01\x0a\x01");
  check_refused(there, there.labels, "label 10 of image 1 is not below the 10 classes");
}

TEST_CASE("idx: a missing data set says how to get it") {
  const pair_of_files here;
  try {
    (void)fashion_mnist::load_fashion_mnist(here.path);
    FAIL("expected a file_error");
  } catch (const lightnet::file_error& error) {
    const std::string_view message = error.what();
    CHECK(message.find(here.path + "/train-images-idx3-ubyte.gz: does not exist") != std::string_view::npos);
    CHECK(message.find("dataset-fashion-mnist") != std::string_view::npos);
  }
}
