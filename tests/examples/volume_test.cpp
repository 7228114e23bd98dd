// SPDX-License-Identifier: Apache-2.0
// Volumes of the program segment_volume: files, halves, blocks, votes.
#include <doctest/doctest.h>
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "../temporary_folder.hpp"
#include "segment_volume/batches.hpp"

namespace fs = std::filesystem;
using segment_volume::volume;

namespace {

/// The header of a sound file of 7 x 3 x 2 voxels, the middle at x = 3.
std::string header() {
  std::string bytes(352, '\0');
  const auto put = [&bytes](std::size_t offset, auto value) {
    std::memcpy(bytes.data() + offset, &value, sizeof value);
  };
  put(0, std::int32_t{348});
  for (const auto& [offset, value] : {std::pair{40, 3}, {42, 7}, {44, 3}, {46, 2}, {70, 2}, {72, 8}, {254, 4}}) {
    put(static_cast<std::size_t>(offset), static_cast<std::int16_t>(value));
  }
  put(108, 352.0F);
  put(112, 1.0F);
  put(280, 1.0F);
  put(292, -3.0F);
  std::memcpy(bytes.data() + 344, "n+1", 4);
  return bytes;
}

template <class Number>
std::string with(std::string bytes, std::size_t offset, Number value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
  return bytes;
}

std::string data(std::size_t count = 42) {
  std::string bytes;
  for (std::size_t i = 0; i < count; ++i) bytes += static_cast<char>(i % 117);
  return bytes;
}

void put_gzip(const fs::path& path, const std::string& bytes) {
  const auto file = ::gzopen(path.c_str(), "wb1");
  REQUIRE(file != nullptr);
  REQUIRE(::gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size())) == static_cast<int>(bytes.size()));
  REQUIRE(::gzclose(file) == Z_OK);
}

/// What reading a file of these contents throws, without the name of the file.
std::string refusal(const std::string& bytes) {
  const folder here;
  const auto path = here / "a.nii.gz";
  put_gzip(path, bytes);
  try {
    (void)segment_volume::load_nifti(path);
  } catch (const lightnet::file_error& error) {
    const std::string message = error.what(), start = "lightnet: " + path.string() + ": ";
    CHECK(message.starts_with(start));
    return message.substr(start.size());
  }
  return {};
}

volume filled(const std::array<std::int64_t, 3>& extents, std::int64_t middle, int factor, int modulus) {
  volume made{extents, middle, {}};
  for (std::int64_t i = 0; i < extents[0] * extents[1] * extents[2]; ++i) {
    made.voxels.push_back(static_cast<std::uint8_t>(i * factor % modulus));
  }
  return made;
}

}  // namespace

TEST_CASE("nifti: a volume is read") {
  const folder here;
  put_gzip(here / "a.nii.gz", header() + data());
  const auto read = segment_volume::load_nifti(here / "a.nii.gz");
  CHECK(read.extents == std::array<std::int64_t, 3>{2, 3, 7});
  CHECK(read.middle == 3);
  CHECK(read.size_text() == "7 x 3 x 2");
  REQUIRE(read.voxels.size() == 42);
  CHECK(read.voxels[41] == 41);
  put_gzip(here / "a.nii.gz", with(header(), 108, 360.0F) + "12345678" + data());
  CHECK(segment_volume::load_nifti(here / "a.nii.gz").voxels == read.voxels);
}

TEST_CASE("nifti: contents that are not what they should be") {
  const auto good = header();
  CHECK(refusal(good + data()).empty());
  for (const std::size_t length : {0U, 3U, 4U, 347U}) {
    CHECK(refusal(good.substr(0, length)) ==
          "contents end after " + std::to_string(length) + " bytes, inside the NIfTI header");
  }
  CHECK(refusal(good.substr(0, 350)) == "contents end in front of the data");
  CHECK(refusal(good + data(41)) == "contents end after 41 of the 42 bytes that the NIfTI header announces");
  CHECK(refusal(good + data(43)) == "has trailing bytes behind the 42 bytes that the NIfTI header announces");
  CHECK(refusal(with(good, 0, std::int32_t{540}) + data()) ==
        "is not a NIfTI-1 file: its header has 540 bytes, expected 348");
  CHECK(refusal(with(good, 0, std::int32_t{0x5C010000})).find("big-endian") != std::string::npos);
  CHECK(refusal(with(good, 344, 'x')) == "is not a NIfTI-1 file of header and data");
  CHECK(refusal(with(good, 40, std::int16_t{4})) == "has 4 dimensions, expected 3");
  CHECK(refusal(with(good, 42, std::int16_t{-7})) == "holds nothing: -7 x 3 x 2 voxels");
  const std::array<std::int16_t, 3> absurd{32767, 32767, 32767};
  CHECK(refusal(with(good, 42, absurd)) == "absurd size: 32767 x 32767 x 32767 voxels");
  CHECK(refusal(with(good, 70, std::int16_t{16})) == "holds numbers of NIfTI's type 16, expected 2, which are bytes");
  CHECK(refusal(with(good, 112, 2.0F)) == "scales its numbers by 2 and 0, expected 1 and 0");
  CHECK(refusal(with(good, 254, std::int16_t{0})) == "does not say where left and right are");
  for (const float middle : {-3.5F, 0.0F, -6.0F, -9.0F, NAN}) {
    CHECK(refusal(with(good, 292, middle)) == "does not go from left to right, on both sides of a plane of voxels");
  }
  CHECK(refusal(with(good, 280, -1.0F)) == "does not go from left to right, on both sides of a plane of voxels");
  CHECK(refusal(with(good, 284, 0.5F)) == "does not go from left to right, on both sides of a plane of voxels");
  CHECK(refusal(with(good, 108, 100.0F)) ==
        "says that its data begin at byte 100, expected a whole number from 352 to 65536");
  CHECK(refusal(with(good, 108, INFINITY)) ==
        "says that its data begin at byte inf, expected a whole number from 352 to 65536");
}

TEST_CASE("halves: the right one is mirrored, and pairs of labels are one class") {
  // Voxel x of a line holds 10 x; the middle plane, 3, belongs to neither half, and what has no partner is left out.
  const auto image = filled({2, 3, 9}, 3, 10, 90);
  volume labels{{2, 3, 9}, 3, std::vector<std::uint8_t>(54)};
  for (std::size_t line = 0; line < 6; ++line) {
    std::uint8_t* const at = labels.voxels.data() + 9 * line;
    at[0] = line < 2 ? 85 : 7, at[1] = 7, at[2] = 8;  // on the left mostly pair 4, then pair 43
    at[4] = 86, at[5] = 110, at[6] = 5;               // on the right, outwards; 110 lies in the middle
  }
  const auto both = segment_volume::split(image, labels, 2);
  CHECK(both.labels == std::vector<int>{7, 85});
  CHECK(both.left.extents == std::array<std::int64_t, 3>{2, 3, 3});
  CHECK(both.right.extents == both.left.extents);
  REQUIRE(both.right.grey.size() == 18);
  for (std::size_t line = 0; line < 6; ++line) {
    for (std::size_t x = 0; x < 3; ++x) {
      CHECK(both.left.grey[3 * line + x] == 10 * x);
      CHECK(both.right.grey[3 * line + x] == 60 - 10 * x);
    }
    CHECK(both.left.classes[3 * line] == (line < 2 ? 2 : 1));
    CHECK(both.left.classes[3 * line + 2] == 1);
    CHECK(both.right.classes[3 * line] == 0);  // pair 3 is none of the two largest
    CHECK(both.right.classes[3 * line + 1] == 0);
    CHECK(both.right.classes[3 * line + 2] == 2);
  }
  CHECK(segment_volume::dice({1, 1, 2, 0}, {1, 2, 2, 0}, 3) == std::vector<double>{2.0 / 3, 2.0 / 3, 0});
}

TEST_CASE("halves: files that do not belong together") {
  const folder here;
  const auto refused = [&here] {
    try {
      (void)segment_volume::load_halves(here.path, 2);
    } catch (const lightnet::file_error& error) {
      return std::string{error.what()};
    }
    return std::string{};
  };
  const auto labels = (here / "aal.nii.gz").string();
  put_gzip(here / "ch2.nii.gz", header() + data());
  CHECK(refused() ==
        "lightnet: " + labels + ": does not exist; apt-get install mricron-data, or name a folder with --data");
  put_gzip(labels, header() + data());
  CHECK(refused().empty());
  put_gzip(labels, with(header(), 44, std::int16_t{2}) + data(28));
  CHECK(refused() == "lightnet: " + labels + ": has 7 x 2 x 2 voxels with the middle at 3, but " +
                         (here / "ch2.nii.gz").string() + " has 7 x 3 x 2 with the middle at 3");
  put_gzip(labels, with(header(), 292, -2.0F) + data());
  CHECK(refused().find("with the middle at 2, but") != std::string::npos);
  put_gzip(labels, header() + data(41) + "\x75");
  CHECK(refused() == "lightnet: " + labels + ": holds the label 117, expected those of the atlas AAL, 0 to 116");
}

TEST_CASE("blocks: means of grey values, classes in the middle, moved; and votes find the way back") {
  const segment_volume::half whole{{5, 7, 8}, filled({5, 7, 8}, 1, 37, 256).voxels, filled({5, 7, 8}, 1, 3, 4).voxels};
  const segment_volume::coarse blocks{whole, 3, 2};
  CHECK(blocks.extents() == std::array<std::int64_t, 3>{2, 4, 4});
  const auto size = static_cast<std::size_t>(blocks.size());
  const segment_volume::change how{{1, -2, 2}, 0.5};
  std::vector<float> grey(size, NAN);
  std::vector<std::int32_t> classes(size, 99);
  blocks.fill(whole, how, grey.data(), classes.data());
  const auto voxel = [&](const std::vector<std::uint8_t>& of, std::int64_t z, std::int64_t y, std::int64_t x) {
    const bool inside = z >= 0 && z < 5 && y >= 0 && y < 7 && x >= 0 && x < 8;
    return inside ? int{of[static_cast<std::size_t>((z * 7 + y) * 8 + x)]} : -1;
  };
  for (std::int64_t i = 0; i < blocks.size(); ++i) {
    const auto z = i / 16 * 3 - 1, y = i / 4 % 4 * 3 + 2, x = i % 4 * 3 - 2;
    double sum = 0;
    for (std::int64_t n = 0; n < 27; ++n) sum += std::max(0, voxel(whole.grey, z + n / 9, y + n / 3 % 3, x + n % 3));
    CAPTURE(i);
    CHECK(grey[static_cast<std::size_t>(i)] == doctest::Approx(0.5 * sum / 27 / 255).epsilon(1e-6));
    CHECK(classes[static_cast<std::size_t>(i)] == voxel(whole.classes, z + 1, y + 1, x + 1));
  }

  // Of the 27 places of the blocks, one has each voxel in the middle of its block: with the others silent it says what is true.
  segment_volume::settings chosen;
  chosen.factor = 3;
  segment_volume::batches places{whole, chosen};
  CHECK(places.size() == 27);
  std::vector<std::uint8_t> votes(5 * std::size_t{7} * 8 * 5);
  for (std::int64_t item = 0; item < 27; ++item) {
    const segment_volume::coarse larger{whole, 3, 4};  // with room for all places
    const auto shift = places.change_of(item, 0).shift;
    std::vector<float> ignored(static_cast<std::size_t>(larger.size()));
    std::vector<std::int32_t> said(ignored.size());
    larger.fill(whole, {shift, 1}, ignored.data(), said.data());
    for (auto& one : said) one = one < 0 ? 4 : one;
    std::vector<std::uint8_t> of_item(votes.size());
    larger.vote(shift, said, 5, of_item);
    for (std::int64_t v = 0; v < 5 * 7 * 8; ++v) {
      const auto z = v / 56 + shift[0], y = v / 8 % 7 + shift[1], x = v % 8 + shift[2];
      if (z % 3 != 1 || y % 3 != 1 || x % 3 != 1) continue;
      for (std::size_t c = 0; c < 5; ++c)
        votes[5 * static_cast<std::size_t>(v) + c] = of_item[5 * static_cast<std::size_t>(v) + c];
    }
  }
  CHECK(segment_volume::elected(votes, 5) == whole.classes);
  CHECK(segment_volume::elected({0, 2, 2, 1, 0, 0}, 3) == std::vector<std::uint8_t>{1, 0});
}

TEST_CASE("batches of a half: what is random is a function of seed, epoch and item") {
  const segment_volume::half whole{{5, 7, 8}, filled({5, 7, 8}, 1, 37, 256).voxels, filled({5, 7, 8}, 1, 3, 4).voxels};
  segment_volume::settings chosen;
  chosen.factor = 2;
  segment_volume::batches one{whole, chosen, 9, 4}, same{whole, chosen, 9, 4}, other{whole, chosen, 9, 5};
  CHECK(one.size() == 9);
  const auto apart = [](const segment_volume::change& a, const segment_volume::change& b) {
    return a.shift != b.shift || a.gain != b.gain;
  };
  const auto first = one.change_of(3, 2);
  CHECK_FALSE(apart(first, same.change_of(3, 2)));
  CHECK(apart(first, one.change_of(4, 2)));
  CHECK(apart(first, one.change_of(3, 1)));
  CHECK(apart(first, other.change_of(3, 2)));
  for (std::int64_t item = 0; item < 200; ++item) {
    const auto how = one.change_of(item, 0);
    for (const auto moved : how.shift) CHECK(std::abs(moved) <= chosen.shift);
    CHECK(std::abs(how.gain - 1) <= chosen.contrast);
  }
  const std::vector<std::int64_t> items{3, 0};
  const auto batch = one.load(items, 2);
  CHECK(batch.inputs.extents() == std::array<std::int64_t, 5>{2, 3, 6, 6, 1});
  CHECK(batch.labels.extents() == std::array<std::int64_t, 2>{2, 108});
  std::vector<float> grey(108);
  std::vector<std::int32_t> classes(108);
  one.blocks().fill(whole, first, grey.data(), classes.data());
  for (std::int64_t i = 0; i < 108; ++i) {
    const auto at = static_cast<std::size_t>(i);
    CHECK(batch.inputs.data()[i] == static_cast<float>((grey[at] - chosen.mean) / chosen.deviation));
    CHECK(batch.labels(0, i) == classes[at]);
  }
}
