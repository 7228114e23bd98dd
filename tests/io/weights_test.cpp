// SPDX-License-Identifier: Apache-2.0
// The weights of a model, in and out.
#include <doctest/doctest.h>

#include <cmath>
#include <lightnet/core/parameters.hpp>
#include <lightnet/io/weights.hpp>
#include <string>
#include <vector>

#include "../temporary_folder.hpp"

namespace ln = lightnet;

namespace {

/// A layer as far as its parameters go: a matrix, and a bias for each of `biases`.
struct layer {
  static constexpr std::int64_t parameter_count = 15 + 16 * 2;
  int biases = 1;

  void describe(const std::string& prefix, std::int64_t offset, std::vector<ln::parameter>& list) const {
    list.push_back({prefix + "weight", {5, 3}, offset});
    for (int i = 0; i < biases; ++i) list.push_back({prefix + "bias." + std::to_string(i), {2}, offset + 15 + 2 * i});
  }
};

template <class T>
ln::parameter_block<T> block(int biases = 1) {
  auto all = ln::parameter_block<T>::of(layer{biases});
  for (std::int64_t i = 0; i < all.size(); ++i)
    all.view()(i) = static_cast<T>(std::sqrt(0.37 * static_cast<double>(i)));
  return all;
}

template <class T>
std::string refusal(const std::filesystem::path& path, ln::parameter_block<T> to) {
  const auto before = to;
  try {
    ln::read_weights(path, to);
  } catch (const ln::file_error& error) {
    for (std::int64_t i = 0; i < to.size(); ++i) CHECK(to.view()(i) == before.view()(i));
    return error.what();
  }
  return {};
}

/// Weights of type From, written and read as To.
template <class From, class To>
void check_types() {
  const folder here;
  const auto from = block<From>();
  ln::write_weights(here / "a", from);
  CHECK(ln::safetensors_file(here / "a").find("weight")->type == ln::stored_type_of<From>::value);
  auto to = from.like();
  ln::read_weights(here / "a", to);
  auto other = ln::parameter_block<To>::of(layer{});
  ln::read_weights(here / "a", other);
  for (std::int64_t i = 0; i < 17; ++i) {
    CHECK(to.view()(i) == from.view()(i));
    CHECK(other.view()(i) == static_cast<To>(static_cast<ln::accumulator<From>>(from.view()(i))));
  }
}

}  // namespace

TEST_CASE("weights: what is written is what is read, in every type") {
  check_types<float, double>();
  check_types<double, float>();
  check_types<ln::bfloat16, float>();
  check_types<float, ln::bfloat16>();
  check_types<ln::float16, float>();
  check_types<double, ln::float16>();
}

TEST_CASE("weights: all that does not fit is listed, and nothing read") {
  const folder here;
  const auto path = here / "a.safetensors";
  const std::string begins = "lightnet: " + path.string() + ": does not hold the tensors of this model: ";
  const std::vector<float> numbers(15);
  const std::vector<std::int64_t> integers(2);
  const auto with = [&](const std::vector<ln::stored_tensor>& tensors) {
    ln::write_safetensors(path, tensors);
    return refusal(path, block<float>(3));
  };
  const auto good = ln::store<float>("weight", {5, 3}, numbers);
  const auto bias = [&](const char* name) { return ln::store<float>(name, {2}, std::span(numbers).first(2)); };
  CHECK(with({bias("bias.1"), bias("bias.2"), good, bias("bias.0")}).empty());
  CHECK(with({good, bias("bias.1")}) == begins + "missing: 'bias.0', 'bias.2'");
  CHECK(with({good, bias("bias.0"), bias("bias.1"), bias("bias.2"), bias("scale"), bias("Bias.0")}) ==
        begins + "left over: 'scale', 'Bias.0'");
  CHECK(with({ln::store<float>("weight", {3, 5}, numbers), ln::store<std::int64_t>("bias.0", {2}, integers),
              ln::store<std::int64_t>("bias.2", {1, 2}, integers), bias("x")}) ==
        begins +
            "missing: 'bias.1'; left over: 'x'; misfits: 'weight' of shape [3, 5], expected [5, 3], 'bias.0' of type "
            "I64, expected F32, BF16, F16, F64, 'bias.2' of type I64, expected F32, BF16, F16, F64, of shape [1, 2], "
            "expected [2]");

  ln::write_safetensors(path, std::vector{good});
  const auto many = refusal(path, block<float>(16));
  CHECK(many.starts_with(begins + "missing: 'bias.0', 'bias.1', "));
  CHECK(many.ends_with(", 'bias.11' and 4 more"));
}

TEST_CASE("weights: what may lie beside them") {
  const folder here;
  const std::vector<float> numbers(15);
  const std::vector<ln::stored_tensor> tensors{ln::store<float>("weight", {5, 3}, numbers),
                                               ln::store<float>("optimizer.first.weight", {5, 3}, numbers)};
  ln::write_safetensors(here / "a", tensors, {{"format", "a checkpoint"}});
  auto to = block<float>(0);
  CHECK_THROWS_AS(ln::read_weights(here / "a", to), ln::file_error);
  CHECK_THROWS_AS(ln::read_weights(here / "a", to, {"extra."}), ln::file_error);
  CHECK(to.view()(4) != 0);
  ln::read_weights(here / "a", to, {"extra.", "optimizer."});
  CHECK(to.view()(4) == 0);
}
