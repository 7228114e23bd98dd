// SPDX-License-Identifier: Apache-2.0
// fla's LightNet: its weights in our model give its logits. fla_lightnet.safetensors is from make_fla_golden.py.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <lightnet/io/fla_checkpoint.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "../temporary_folder.hpp"

namespace ln = lightnet;
namespace fs = std::filesystem;

namespace {

using options = ln::fla_language_model_options<3, 30, 2, 44, 53, 7>;
using model = ln::causal_language_model<options, 1>;
using block = ln::parameter_block<float>;
constexpr std::int64_t batch = 4, length = 45, vocabulary = options::vocabulary;
constexpr float tolerance = 1e-4F;  // an epsilon or a scale that is not fla's costs 0.3

void put(const fs::path& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  REQUIRE(file.good());
}

/// The golden file, and fla's checkpoint that it was made of, to be changed and written.
struct golden {
  ln::safetensors_file file{fs::path(__FILE__).parent_path() / "fla_lightnet.safetensors"};
  std::vector<ln::stored_tensor> weights;
  std::string config = file.metadata().at("config");

  golden() {
    for (const auto& tensor : file.tensors()) {
      if (tensor.name != "input_ids" && tensor.name != "logits") weights.push_back(tensor);
    }
  }
  ln::stored_tensor& operator[](std::string_view name) {
    return *std::ranges::find_if(weights, [&](const auto& each) { return each.name == name; });
  }
  void erase(std::string_view name) {
    std::erase_if(weights, [&](const auto& each) { return each.name == name; });
  }
  void configure(const std::string& from, const std::string& to) {
    REQUIRE(config.find(from) != std::string::npos);
    config.replace(config.find(from), from.size(), to);
  }
  void write(const fs::path& folder) const {
    put(folder / "config.json", config);
    ln::write_safetensors(folder / "model.safetensors", weights, {{"format", "pt"}});
  }

  std::vector<std::int32_t> tokens() const {
    std::vector<std::int64_t> ids(batch * length);
    file.read<std::int64_t>("input_ids", std::vector{batch, length}, ids);
    return {ids.begin(), ids.end()};
  }
  std::vector<float> logits() const {
    std::vector<float> values(batch * length * vocabulary);
    file.read<float>("logits", std::vector{batch, length, vocabulary}, values);
    return values;
  }
};

block read(const fs::path& folder) {
  auto all = block::of(model{});
  ln::read_fla_checkpoint(folder, model{}, all);
  return all;
}

/// What reading the golden checkpoint throws once it is changed; the block stays as it was.
template <class Change>
std::string refusal(const folder& here, const Change& change) {
  golden bad;
  change(bad);
  bad.write(here.path);
  auto all = block::of(model{});
  std::ranges::fill_n(all.view().data(), all.size(), 7.0F);
  try {
    ln::read_fla_checkpoint(here.path, model{}, all);
  } catch (const ln::file_error& error) {
    CHECK(std::ranges::all_of(std::span(all.view().data(), static_cast<std::size_t>(all.size())),
                              [](float x) { return x == 7; }));
    return error.what();
  }
  return {};
}

float largest_difference(std::span<const float> a, std::span<const float> b) {
  REQUIRE(a.size() == b.size());
  float largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return std::ranges::all_of(a, [](float x) { return std::isfinite(x); }) ? largest : INFINITY;
}

/// The logits [B, count, vocabulary] after the next tokens of every sequence.
template <class Mode>
std::vector<float> forward(const block& all, std::int64_t first, std::int64_t count, model::context<Mode>& context) {
  const auto tokens = golden{}.tokens();
  std::vector<std::int32_t> some;
  for (std::int64_t b = 0; b < batch; ++b) {
    const auto from = tokens.begin() + b * length + first;
    some.insert(some.end(), from, from + count);
  }
  std::vector<float> y(static_cast<std::size_t>(batch * count * vocabulary), NAN);
  ln::execution<ln::cpu> on(1);
  model{}.forward(on, all.for_layer(model{}), {some.data(), {{batch, count}}},
                  {y.data(), {{batch * count, vocabulary}}}, context);
  return y;
}

}  // namespace

TEST_CASE("fla's LightNet: its weights give its logits, in parallel and in parts") {
  const folder here;
  const golden right;
  right.write(here.path);
  const auto all = read(here.path);
  const auto expected = right.logits();
  model::context<ln::infer> nothing;
  const float far = largest_difference(forward(all, 0, length, nothing), expected);
  MESSAGE("largest difference of a logit: " << far << ", file made by " << right.file.metadata().at("made_by"));
  CHECK(far <= tolerance);

  model::context<ln::decode> past;
  for (std::int64_t first = 0, count = 0; first < length; first += count) {
    count = first == 0 ? 33 : 1;
    const auto y = forward(all, first, count, past);
    for (std::int64_t b = 0; b < batch; ++b) {
      const auto at = [&](std::span<const float> of, std::int64_t t) {
        return of.subspan(static_cast<std::size_t>(t * vocabulary), static_cast<std::size_t>(count * vocabulary));
      };
      CHECK(largest_difference(at(y, b * count), at(expected, b * length + first)) <= tolerance);
    }
  }
}

TEST_CASE("fla's LightNet: once converted, its weights are read as any other model's") {
  const folder here;
  golden{}.write(here.path);
  const auto converted = read(here.path);
  const auto file = fs::path(here.path) / "converted.safetensors";
  ln::write_weights(file, converted);
  auto all = block::of(model{});
  ln::read_weights(file, all);
  CHECK(std::ranges::equal(std::span(all.view().data(), static_cast<std::size_t>(all.size())),
                           std::span(converted.view().data(), static_cast<std::size_t>(converted.size()))));
}

TEST_CASE("fla's LightNet: weights of bfloat16, and in several files") {
  const folder here;
  golden right;
  right.write(here.path);
  const auto all = read(here.path);
  std::vector<std::vector<ln::bfloat16>> halves;
  for (auto& tensor : right.weights) {
    std::vector<float> values(tensor.data.size() / 4);
    right.file.read<float>(tensor.name, tensor.shape, values);
    halves.emplace_back(values.begin(), values.end());
    tensor = ln::store<ln::bfloat16>(tensor.name, tensor.shape, halves.back());
  }
  right.write(here.path);
  const auto rounded = read(here.path);
  for (std::int64_t i = 0; i < all.size(); ++i) {
    CHECK(rounded.view()(i) == static_cast<float>(static_cast<ln::bfloat16>(all.view()(i))));
  }

  const auto weights = std::span<const ln::stored_tensor>(right.weights);
  ln::write_safetensors(here / "a.safetensors", weights.first(11));
  ln::write_safetensors(here / "b.safetensors", weights.subspan(11));
  fs::remove(here / "model.safetensors");
  const auto index = here / "model.safetensors.index.json";
  const auto refused = [&](std::string_view text) {
    put(index, text);
    try {
      read(here.path);
    } catch (const ln::file_error& error) {
      return std::string(error.what());
    }
    return std::string{};
  };
  CHECK(refused(R"({"weight_map": {"x": "b.safetensors", "y": "a.safetensors", "z": "b.safetensors"}})").empty());
  CHECK(refused(R"({"weight_map": {"x": "b.safetensors"}})").find(": missing: 'model.embeddings.weight', ") !=
        std::string::npos);
  CHECK(refused(R"({"weight_map": {"x": "c.safetensors"}})").find("c.safetensors: cannot be opened") !=
        std::string::npos);
  CHECK(refused(R"({"weight_map": {"x": "../a.safetensors"}})")
            .ends_with("index.json: weight_map names '../a.safetensors', not a file beside it"));
  CHECK(refused(R"({"weight_map": {"x": 3}})").ends_with("weight_map holds number, expected strings"));
  CHECK(refused(R"({"weight_map": []})").ends_with("weight_map is not a JSON object"));
  CHECK(refused("[").ends_with("index.json: is not a JSON object"));
}

TEST_CASE("fla's LightNet: a tied head has no weights of its own") {
  const folder here;
  using tied = ln::causal_language_model<ln::fla_language_model_options<3, 30, 2, 44, 53, 7, true>, 1>;
  golden right;
  right.configure("\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true");
  right.write(here.path);
  auto all = block::of(tied{});
  CHECK_THROWS_AS(ln::read_fla_checkpoint(here.path, tied{}, all), ln::file_error);
  right.erase("lm_head.weight");
  right.write(here.path);
  ln::read_fla_checkpoint(here.path, tied{}, all);
  std::vector<float> norm(30);
  right.file.read<float>("model.norm.weight", std::vector<std::int64_t>{30}, norm);
  CHECK(std::ranges::equal(std::span(all["norm.weight"].data(), 30), norm));
}

TEST_CASE("fla's LightNet: tensors of another model are listed") {
  const folder here;
  const std::string begins =
      "lightnet: " + (here / "model.safetensors").string() + ": does not hold the tensors of this model: ";
  CHECK(refusal(here, [](golden&) {}).empty());
  CHECK(refusal(here, [](golden& bad) {
          bad.erase("lm_head.weight");
          bad.erase("model.layers.1.attn.g_proj.0.weight");
        }) == begins + "missing: 'model.layers.1.attn.g_proj.0.weight', 'lm_head.weight'");
  CHECK(refusal(here, [](golden& bad) {
          bad.weights.push_back(bad["model.norm.weight"]);
          bad.weights.back().name = "model.layers.0.attn.q_conv1d.weight";
        }) == begins + "left over: 'model.layers.0.attn.q_conv1d.weight'");
  CHECK(refusal(here, [](golden& bad) {
          std::swap(bad["model.layers.2.mlp.up_proj.weight"].shape[0],
                    bad["model.layers.2.mlp.up_proj.weight"].shape[1]);
        }) == begins + "misfits: 'model.layers.2.mlp.up_proj.weight' of shape [30, 44], expected [44, 30]");
  CHECK(refusal(here, [](golden& bad) { bad["model.norm.weight"].type = ln::stored_type::i32; }) ==
        begins + "misfits: 'model.norm.weight' of type I32, expected F32, BF16, F16, F64");
  CHECK(refusal(here, [](golden& bad) { bad["model.norm.weight"].name = "norm.weight"; }) ==
        begins + "missing: 'model.norm.weight'; left over: 'norm.weight'");

  golden{}.write(here.path);
  const auto whole = contents(here / "model.safetensors");
  for (const std::size_t left : {std::size_t{0}, std::size_t{5}, std::size_t{300}, whole.size() - 1}) {
    CAPTURE(left);
    put(here / "model.safetensors", std::string_view(whole).substr(0, left));
    CHECK_THROWS_AS(read(here.path), ln::file_error);
  }
}

TEST_CASE("fla's LightNet: the configuration of another model is named") {
  const folder here;
  const auto refused = [&](const std::string& from, const std::string& to) {
    const std::string text = refusal(here, [&](golden& bad) { bad.configure(from, to); });
    const std::string begins = "lightnet: " + (here / "config.json").string() + ": ";
    CHECK((text.empty() || text.starts_with(begins)));
    return text.empty() ? text : text.substr(begins.size());
  };
  CHECK(refused("\"lightnet\"", "\"gla\"") == "model_type is 'gla', expected 'lightnet'");
  CHECK(refused("\"num_heads\": 2", "\"num_heads\": 3") == "num_heads is 3, expected 2");
  CHECK(refused("\"num_heads\": 2", "\"num_heads\": null") == "num_heads is 0, expected 2");
  CHECK(refused("\"expand_ratio\": null", "\"expand_ratio\": 15").empty());
  CHECK(refused("\"num_heads\": 2, \"expand_ratio\": null", "\"expand_ratio\": 15").empty());
  CHECK(refused("\"num_heads\": 2, \"expand_ratio\": null", "\"expand_ratio\": 10") == "num_heads is 3, expected 2");
  CHECK(refused("\"expand_ratio\": null", "\"expand_ratio\": 30") == "expand_ratio is 30, expected 15");
  CHECK(refused("\"expand_ratio\": null, ", "") == "expand_ratio is 128, expected 15");
  CHECK(refused("\"hidden_size\": 30", "\"hidden_size\": \"30\"") == "hidden_size is '30', expected a whole number");
  CHECK(refused("\"hidden_size\": 30", "\"hidden_size\": [[3]]") == "hidden_size is array, expected a whole number");
  CHECK(refused("\"num_hidden_layers\": 3, ", "") == "num_hidden_layers is 24, expected 3");
  CHECK(refused("\"vocab_size\": 53", "\"vocab_size\": 54") == "vocab_size is 54, expected 53");
  CHECK(refused("\"swish\"", "\"powlu\"") == "hidden_act is 'powlu', expected 'swish'");
  CHECK(refused("1e-06", "1e-05") == "norm_eps is 1e-05, expected 1e-06");
  CHECK(refused("false", "true") == "tie_word_embeddings is true, expected false");
  CHECK(refused("{", "") == "is not a JSON object");

  golden{}.write(here.path);
  put(here / "config.json", "");
  CHECK_THROWS_AS(read(here.path), ln::file_error);
  fs::remove(here / "config.json");
  CHECK_THROWS_AS(read(here.path), ln::file_error);
}
