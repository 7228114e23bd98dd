// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <lightnet/io/load_parameters.hpp>
#include <limits>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "../temporary_folder.hpp"

namespace ln = lightnet;

namespace {

/// A layer of two parameters, which do not touch.
struct layer {
  static constexpr std::int64_t parameter_count = 19;
  void describe(const std::string& prefix, std::int64_t offset, std::vector<ln::parameter>& list) const {
    list.push_back({prefix + "weight", {5, 3}, offset, {}, true});
    list.push_back({prefix + "bias", {3}, offset + 16, {}, false});
  }
};

const std::vector<float> weight = [] {
  std::vector<float> values(15);
  std::iota(values.begin(), values.end(), 0.1F);
  return values;
}();
const std::vector<float> bias{-7, 8, 1.00390625F};  // the last one lies between two numbers of bfloat16

ln::stored_tensor stored(const char* name, std::vector<std::int64_t> shape, const std::vector<float>& values) {
  return ln::store(name, std::move(shape), std::span(values));
}

/// What loading a file of these tensors throws; the block must stay as it was.
std::string refusal(const std::vector<ln::stored_tensor>& tensors) {
  const folder here;
  const auto path = here / "a.safetensors";
  ln::write_safetensors(path, tensors);
  auto block = ln::parameter_block<float>::of(layer{});
  std::iota(block.view().data(), block.view().data() + block.size(), 1.0F);
  const auto kept = block;
  try {
    ln::load_parameters(ln::safetensors_file{path}, block);
  } catch (const ln::file_error& wrong) {
    CHECK(std::equal(kept.view().data(), kept.view().data() + kept.size(), block.view().data()));
    const std::string text = wrong.what(), start = "lightnet: " + path.string() + ": ";
    CHECK(text.starts_with(start));
    return text.substr(start.size());
  }
  return {};
}

}  // namespace

TEST_CASE("load_parameters: the values of a file, and of a checkpoint beside what is there for training") {
  const folder here;
  const auto path = here / "a.safetensors";
  const std::vector<float> other(15, 9);
  ln::write_safetensors(path, std::vector{stored("optimizer.first.weight", {5, 3}, other), stored("bias", {3}, bias),
                                          stored("extra.curve", {3, 5}, other), stored("weight", {5, 3}, weight)});
  const ln::safetensors_file file{path};
  auto block = ln::parameter_block<float>::of(layer{});
  block.view()(15) = 4;
  ln::load_parameters(file, block);
  CHECK(std::equal(weight.begin(), weight.end(), block.view().data()));
  CHECK(std::equal(bias.begin(), bias.end(), block.view().data() + 16));
  CHECK(block.view()(15) == 4);  // what no parameter describes

  auto rounded = ln::parameter_block<ln::bfloat16>::of(layer{});
  ln::load_parameters(file, rounded);
  CHECK(static_cast<float>(rounded["bias"](0)) == -7);
  CHECK(static_cast<float>(rounded["bias"](2)) == 1);
}

TEST_CASE("load_parameters: a file of another model, and what is wrong with it") {
  CHECK(refusal({stored("weight", {5, 3}, weight), stored("bias", {3}, bias)}).empty());
  const std::string begins = "does not hold the tensors of this model: ";
  CHECK(refusal({stored("weight", {5, 3}, weight)}) == begins + "missing: 'bias'");
  CHECK(refusal({stored("weight", {3, 5}, weight), stored("Bias", {3}, bias), stored("scale", {1, 3}, bias)}) ==
        begins + "missing: 'bias'; left over: 'Bias', 'scale'; misfits: 'weight' of shape [3, 5], expected [5, 3]");
  const std::vector<double> wide(3);
  CHECK(refusal({stored("weight", {5, 3}, weight), ln::store("bias", {3}, std::span(wide))}) ==
        begins + "misfits: 'bias' of type F64, expected F32");

  std::vector<std::string> names;
  for (int i = 0; i < 15; ++i) names.push_back("part." + std::to_string(i));
  std::vector<ln::stored_tensor> many{stored("weight", {5, 3}, weight), stored("bias", {3}, bias)};
  for (const auto& name : names) many.push_back(stored(name.c_str(), {3}, bias));
  CHECK(refusal(many) ==
        begins +
            "left over: 'part.0', 'part.1', 'part.2', 'part.3', 'part.4', 'part.5', 'part.6', 'part.7', 'part.8', "
            "'part.9', 'part.10', 'part.11' and 3 more");

  std::vector<float> bad = bias;
  bad[1] = std::numeric_limits<float>::quiet_NaN();
  CHECK(refusal({stored("weight", {5, 3}, weight), stored("bias", {3}, bad)}) ==
        "tensor 'bias' holds nan, expected finite numbers");
}
