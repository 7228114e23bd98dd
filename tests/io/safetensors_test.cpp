// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <lightnet/io/safetensors.hpp>
#include <limits>
#include <map>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../temporary_folder.hpp"

namespace ln = lightnet;
namespace fs = std::filesystem;

namespace {

using texts = std::map<std::string, std::string>;

void put(const fs::path& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  REQUIRE(file.good());
}

std::string length_bytes(std::uint64_t length) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes;
}

std::string file_of(std::string_view header, std::string_view data) {
  return length_bytes(header.size()).append(header).append(data);
}

/// What opening a file of these bytes throws; empty where it opens.
std::string refusal(const fs::path& path, std::string_view bytes) {
  put(path, bytes);
  try {
    const ln::safetensors_file file(path);
  } catch (const ln::file_error& error) {
    return error.what();
  }
  return {};
}

void check_refused(std::string_view bytes, std::string_view reason) {
  const folder here;
  const auto message = refusal(here / "bad.safetensors", bytes);
  CAPTURE(message);
  CAPTURE(reason);
  CHECK(message.find((here / "bad.safetensors").string()) != std::string::npos);
  CHECK(message.find(reason) != std::string::npos);
}

const std::vector<float> weights{1.5F, -2.0F, 0.0F, 3.25F, std::numeric_limits<float>::infinity(), -0.0F};
const std::vector<std::int64_t> steps{-7};
const std::vector<double> nothing{};

std::vector<ln::stored_tensor> sample() {
  return {ln::store<float>("block.0.weight", {2, 3}, weights), ln::store<std::int64_t>("step", {}, steps),
          ln::store<double>("empty", {4, 0, 5}, nothing)};
}

}  // namespace

TEST_CASE("safetensors: what is written is what is read") {
  const folder here;
  const auto path = here / "a.safetensors";
  const texts metadata{{"format", "lightnet"}, {"quote\"\\\n", "\xc3\xa9t\xc3\xa9"}, {"", ""}};
  ln::write_safetensors(path, sample(), metadata);

  ln::safetensors_file opened(path);
  const ln::safetensors_file file(std::move(opened));  // the bytes move along
  CHECK(file.path() == path);
  CHECK(file.metadata() == metadata);
  REQUIRE(file.tensors().size() == 3);
  CHECK(file.tensors()[0].name == "block.0.weight");
  CHECK(file.tensors()[0].type == ln::stored_type::f32);
  CHECK(file.tensors()[0].shape == std::vector<std::int64_t>{2, 3});
  CHECK(file.find("missing") == nullptr);
  REQUIRE(file.find("empty") != nullptr);
  CHECK(file.find("empty")->shape == std::vector<std::int64_t>{4, 0, 5});
  CHECK(file.find("empty")->data.empty());

  std::vector<float> read_weights(6);
  const std::int64_t shape[] = {2, 3};
  file.read<float>("block.0.weight", shape, read_weights);
  CHECK(std::ranges::equal(std::as_bytes(std::span(read_weights)), std::as_bytes(std::span(weights))));
  std::int64_t read_step = 0;
  file.read<std::int64_t>("step", {}, {&read_step, 1});
  CHECK(read_step == -7);
  CHECK(here.files() == 1);  // no temporary is left

  // The header is padded: data start at a multiple of 64 bytes.
  std::uint64_t length = 0;
  const auto bytes = contents(path);
  std::memcpy(&length, bytes.data(), 8);
  CHECK((8 + length) % 64 == 0);
  CHECK(bytes.size() == 8 + length + 24 + 8);
}

TEST_CASE("safetensors: asking for what is not there names it") {
  const folder here;
  const auto path = here / "a.safetensors";
  ln::write_safetensors(path, sample());
  const ln::safetensors_file file(path);
  const std::int64_t other[] = {3, 2};
  const std::int64_t shape[] = {2, 3};
  std::vector<float> to(6);
  const auto prefix = "lightnet: " + path.string() + ": ";
  CHECK_THROWS_WITH_AS(file.read<float>("bias", shape, to), (prefix + "holds no tensor 'bias'").c_str(),
                       ln::file_error);
  CHECK_THROWS_WITH_AS(file.read<float>("block.0.weight", other, to),
                       (prefix + "tensor 'block.0.weight' has shape [2, 3], expected [3, 2]").c_str(), ln::file_error);
  CHECK_THROWS_WITH_AS(file.require("block.0.weight", ln::stored_type::f64, shape),
                       (prefix + "tensor 'block.0.weight' has type F32, expected F64").c_str(), ln::file_error);
  CHECK_THROWS_AS(file.read<float>("block.0.weight", shape, std::span(to).first(5)), ln::shape_error);
}

TEST_CASE("safetensors: the bytes are those of the format") {
  const folder here;
  const auto path = here / "a.safetensors";
  const std::vector<std::int16_t> two{1, -2};
  const std::vector<ln::stored_tensor> tensors{ln::store<std::int16_t>("t", {2}, two)};
  ln::write_safetensors(path, tensors, {{"k", "v"}});
  std::string header = R"({"__metadata__":{"k":"v"},"t":{"dtype":"I16","shape":[2],"data_offsets":[0,4]}})";
  header.resize(128 - 8, ' ');
  CHECK(contents(path) == file_of(header, std::string_view("\x01\x00\xfe\xff", 4)));

  // And a file made by hand: keys in any order, white space, data in another order than the header.
  put(path, file_of(R"({ "b" : {"data_offsets":[4,6],"shape":[2],"dtype":"BOOL"},
                       "a":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]} }   )",
                    std::string_view("\x80\x3f\x00\x40\x01\x02", 6)));
  const ln::safetensors_file file(path);
  CHECK(file.metadata().empty());
  CHECK(file.tensors()[0].name == "a");
  CHECK(file.tensors()[0].type == ln::stored_type::bf16);
  CHECK(file.tensors()[1].name == "b");
  CHECK(file.tensors()[1].data[0] == std::byte{1});
  bool flags[2] = {false, false};
  const std::int64_t shape[] = {2};
  file.read<bool>("b", shape, flags);
  CHECK(flags[0]);
  CHECK(flags[1]);

  put(path, file_of("{}", ""));
  CHECK(ln::safetensors_file(path).tensors().empty());
}

TEST_CASE("safetensors: names of element types") {
  for (const auto type :
       {ln::stored_type::boolean, ln::stored_type::f16, ln::stored_type::bf16, ln::stored_type::f64}) {
    CHECK(ln::stored_type_named(ln::stored_name(type)) == type);
  }
  CHECK(ln::stored_size(ln::stored_type::f64) == 8);
  CHECK(ln::stored_size(ln::stored_type::f8_e4m3) == 1);
  CHECK_FALSE(ln::stored_type_named("f32").has_value());
}

TEST_CASE("safetensors: hostile files are refused by name and reason") {
  const auto header = [](std::string_view text, std::string_view reason, std::string_view data = "abcd") {
    check_refused(file_of(text, data), reason);
  };
  check_refused("", "shorter than the 8");
  check_refused("1234567", "7 bytes, shorter than the 8");
  check_refused(length_bytes(3) + "{}", "header length 3 is beyond the end of the file of 10 bytes");
  check_refused(length_bytes(~std::uint64_t{0}) + "{}", "header length 18446744073709551615 is beyond the 100000000");
  check_refused(length_bytes(100'000'001) + "{}", "beyond the 100000000 bytes");
  check_refused(length_bytes(0), "does not begin with '{'");

  header("[]", "does not begin with '{'", "");
  header(" {}", "does not begin with '{'", "");
  header("\xef\xbb\xbf{}", "does not begin with '{'", "");
  header(std::string_view("{}\0x", 4), "zero byte", "");
  header("{", "not valid JSON at byte 2", "");
  header("{} {}", "not valid JSON", "");
  header("{}x", "not valid JSON", "");
  header(R"({"a":)", "not valid JSON", "");
  header("{\"\xff\":1}", "not valid UTF-8 at byte", "");
  header(R"({"\ud800":1})", "not valid JSON", "");
  header(R"({"a":1e999})", "not valid JSON", "");
  header(R"({"a":3})", "'a' is the number 3, not an object", "");
  header(R"({"a":null})", "'a' is null, not an object", "");
  header(R"({"a":[]})", "'a' is an array, not an object", "");
  header(R"({"a":"\u001b[31m"})", R"('a' is the string '\x1b[31m', not an object)", "");
  header(R"({"a":{}})", "tensor 'a': dtype is missing");
  header(R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", "tensor 'a': shape is missing");
  header(R"({"a":{"dtype":"F32","shape":[1]}})", "tensor 'a': data_offsets is missing");
  header(R"({"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}})", "unknown dtype 'F31', expected one of BOOL U8");
  header(R"({"a":{"dtype":7,"shape":[1],"data_offsets":[0,4]}})", "'dtype' is the number 7");
  header(R"({"a":{"dtype":["F32"],"shape":[1],"data_offsets":[0,4]}})", "'dtype' is an array");
  header(R"({"a":{"dtype":"F32","shape":1,"data_offsets":[0,4]}})", "'shape' is the number 1");
  header(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", "shape holds the negative number -1");
  header(R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", "shape holds the number '1.0'");
  header(R"({"a":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}})", "shape holds the string '1'");
  header(R"({"a":{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}})", "shape holds an array");
  header(R"({"a":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,4]}})", "is too large");
  header(R"({"a":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,4]}})", "shape holds the number");
  header(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,4]}})", "overflows 64 bits");
  header(R"({"a":{"dtype":"F32","shape":[0,4294967296,4294967296],"data_offsets":[0,0]}})", "overflows 64 bits", "");
  header(R"({"a":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}})", "overflows 64 bits", "");
  header(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", "[4, 0] are in the wrong order");
  header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", "[0, 8] are beyond the end of the data of 4");
  header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", "[0, 4] do not hold F32 of shape [2]");
  header(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", "data_offsets are not two numbers");
  header(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}})", "data_offsets are not two numbers");
  header(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,-4]}})", "data_offsets are not two numbers");
  header(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}})",
         "tensor 'a': unknown key 'x', expected dtype, shape or data_offsets");
  header(R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
         "tensor 'a': duplicate key 'dtype'");
  const std::string one = R"({"dtype":"U8","shape":[2],"data_offsets":)";
  header(R"({"a":)" + one + R"([0,2]},"a":)" + one + "[2,4]}}", "duplicate key 'a'");
  header(R"({"a":)" + one + R"([0,2]},"\u0061":)" + one + "[2,4]}}", "duplicate key 'a'");
  header(R"({"a":)" + one + R"([0,2]},"b":)" + one + "[1,3]}}", "tensor 'b': its data overlap", "abc");
  header(R"({"a":)" + one + R"([0,2]},"b":)" + one + "[0,2]}}", "overlap", "ab");
  header(R"({"a":)" + one + R"([0,2]},"b":)" + one + "[3,5]}}", "tensor 'b': hole of 1 bytes", "abcde");
  header(R"({"a":)" + one + "[2,4]}}", "tensor 'a': hole of 2 bytes");
  header(R"({"a":)" + one + "[0,2]}}", "2 trailing bytes");
  header("{}", "4 trailing bytes");
  header(R"({"__metadata__":{"k":1}})", "metadata: 'k' is the number 1, not a string", "");
  header(R"({"__metadata__":{"k":{}}})", "metadata: 'k' is an object, not a string", "");
  header(R"({"__metadata__":{"k":"1","k":"2"}})", "metadata: duplicate key 'k'", "");
  header(R"({"__metadata__":{},"__metadata__":{}})", "duplicate key '__metadata__'", "");
  header(R"({"__metadata__":"k"})", "'__metadata__' is the string 'k', not an object", "");

  std::string deep = R"({"a":)";
  for (int i = 0; i < 200'000; ++i) deep += "[";
  header(deep, "'a' is an array", "");
  deep = R"({"a":{"dtype":"F32","shape":)";
  for (int i = 0; i < 200'000; ++i) deep += "[";
  header(deep, "shape holds an array", "");
  std::string many = R"({"a":{"dtype":"U8","shape":[)";
  for (int i = 0; i < 50'000; ++i) many += "1,";
  header(many + R"(3],"data_offsets":[0,4]}})", "1, 1, ...]");
}

TEST_CASE("safetensors: what is not a file is refused") {
  const folder here;
  const auto opening = [](const fs::path& path) { const ln::safetensors_file file(path); };
  CHECK_THROWS_WITH_AS(opening(here.path), ("lightnet: " + here.path + ": cannot be read: it is a directory").c_str(),
                       ln::file_error);
  const auto missing = here / "missing";
  CHECK_THROWS_WITH_AS(opening(missing),
                       ("lightnet: " + missing.string() + ": cannot be opened: No such file or directory").c_str(),
                       ln::file_error);
  const auto pipe = here / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK_THROWS_AS(opening(pipe), ln::file_error);
  if (::geteuid() != 0) {
    put(here / "locked", file_of("{}", ""));
    fs::permissions(here / "locked", fs::perms::none);
    CHECK_THROWS_AS(opening(here / "locked"), ln::file_error);
  }
  // 1 TiB of zeros that take no disk: refused by what the header says, before anything of that size is allocated.
  put(here / "sparse", file_of("{}", ""));
  std::error_code failed;
  fs::resize_file(here / "sparse", std::uintmax_t{1} << 40U, failed);
  if (!failed) CHECK_THROWS_AS(opening(here / "sparse"), ln::file_error);
}

TEST_CASE("safetensors: a file cut anywhere is refused") {
  const folder here;
  ln::write_safetensors(here / "whole", sample(), {{"format", "lightnet"}});
  const auto whole = contents(here / "whole");
  CHECK(refusal(here / "cut", whole).empty());
  for (std::size_t length = 0; length < whole.size(); ++length) {
    CAPTURE(length);
    CHECK_FALSE(refusal(here / "cut", std::string_view(whole).substr(0, length)).empty());
  }
  CHECK_FALSE(refusal(here / "cut", whole + "x").empty());
}

TEST_CASE("safetensors: a damaged byte is refused or harmless") {
  const folder here;
  ln::write_safetensors(here / "whole", sample(), {{"format", "lightnet"}});
  const auto whole = contents(here / "whole");
  constexpr std::string_view likely = "0123456789[]{},:\" -";
  std::mt19937 random(20);
  for (int i = 0; i < 4000; ++i) {
    auto bytes = whole;
    for (int damage = i % 3; damage >= 0; --damage) {
      const char any = static_cast<char>(random() % 256);
      bytes[random() % bytes.size()] = i % 2 == 0 ? any : likely[random() % likely.size()];
    }
    put(here / "damaged", bytes);
    try {
      const ln::safetensors_file file(here / "damaged");
      std::size_t sum = 0;
      for (const auto& tensor : file.tensors()) {
        const auto expected = ln::stored_bytes(tensor.type, tensor.shape);
        REQUIRE(expected.has_value());
        CHECK(tensor.data.size() == static_cast<std::size_t>(*expected));
        for (const auto byte : tensor.data) sum += static_cast<std::size_t>(byte);
      }
      CHECK(sum <= 255 * whole.size());
    } catch (const ln::file_error& error) {
      CHECK(std::string_view(error.what()).find("damaged") != std::string_view::npos);
    }
  }
}

TEST_CASE("safetensors: tensors that contradict themselves are not written") {
  const folder here;
  const auto path = here / "a.safetensors";
  ln::write_safetensors(path, sample());
  const auto before = contents(path);
  const auto writing = [&](ln::stored_tensor tensor, const texts& metadata = {}) {
    const std::vector<ln::stored_tensor> tensors{ln::store<std::int64_t>("step", {1}, steps), std::move(tensor)};
    ln::write_safetensors(path, tensors, metadata);
  };
  CHECK_THROWS_AS(writing(ln::store<float>("a", {2, 2}, weights)), ln::shape_error);
  CHECK_THROWS_AS(writing(ln::store<float>("a", {-2, -3}, weights)), ln::shape_error);
  CHECK_THROWS_AS(writing(ln::store<float>("step", {6}, weights)), ln::value_error);
  CHECK_THROWS_AS(writing(ln::store<float>("__metadata__", {6}, weights)), ln::value_error);
  CHECK_THROWS_AS(writing(ln::store<float>("\xff", {6}, weights)), ln::value_error);
  CHECK_THROWS_AS(writing(ln::store<float>("a", {6}, weights), {{"k", "\xc3"}}), ln::value_error);
  CHECK(contents(path) == before);
  CHECK(here.files() == 1);
}

TEST_CASE("safetensors: a write that fails leaves the old file and no other") {
  const folder here;
  const auto path = here / "a.safetensors";
  ln::write_safetensors(path, sample());
  const auto before = contents(path);
  const std::vector<double> large(100'000);
  const std::vector<ln::stored_tensor> tensors{ln::store<double>("large", {100'000}, large)};

  // A disk that is full, as far as one process can have one by itself.
  ::rlimit old_limit{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &old_limit) == 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const ::rlimit limit{65536, old_limit.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
  std::string message;
  try {
    ln::write_safetensors(path, tensors);
  } catch (const ln::file_error& error) {
    message = error.what();
  }
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &old_limit) == 0);
  std::signal(SIGXFSZ, old_handler);
  CHECK(message == "lightnet: " + path.string() + ": cannot be written: File too large");
  CHECK(contents(path) == before);
  CHECK(here.files() == 1);

  CHECK_THROWS_AS(ln::write_safetensors(here / "no-folder" / "a", tensors), ln::file_error);
  CHECK_THROWS_AS(ln::write_safetensors(here.path, tensors), ln::file_error);
  const auto pipe = here / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK_THROWS_AS(ln::write_safetensors(pipe, tensors), ln::file_error);
  CHECK(here.files() == 2);
}

TEST_CASE("replace_file: permissions and links stay") {
  const folder here;
  const auto path = here / "a";
  ln::replace_file(path, "old");
  CHECK(contents(path) == "old");
  fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write);
  fs::create_symlink("a", here / "link");
  ln::replace_file(here / "link", "new");
  CHECK(contents(path) == "new");
  CHECK(fs::is_symlink(here / "link"));
  CHECK(fs::status(path).permissions() == (fs::perms::owner_read | fs::perms::owner_write));
  ln::replace_file(here / std::string(255, 'n'), "a name as long as names can be");
  CHECK(here.files() == 3);
}

TEST_CASE("check_replaceable: what replace_file would refuse, with nothing written") {
  const folder here;
  fs::create_directory(here / "folder");
  fs::create_symlink("folder", here / "link");
  ln::replace_file(here / "old", "old");
  ln::check_replaceable(here / "old");
  ln::check_replaceable(here / "new");
  for (const char* name : {"folder", "link"}) {
    CHECK_THROWS_WITH_AS(ln::check_replaceable(here / name), doctest::Contains("it is a directory"), ln::file_error);
  }
  CHECK_THROWS_WITH_AS(ln::check_replaceable("/dev/null"), doctest::Contains("not a regular file"), ln::file_error);
  for (const fs::path& path : {here / "missing/new", here / "old/new", fs::path{"/proc/new"}}) {
    CHECK_THROWS_WITH_AS(ln::check_replaceable(path), doctest::Contains(path.c_str()), ln::file_error);
  }
  CHECK(contents(here / "old") == "old");
  CHECK(here.files() == 3);
}
