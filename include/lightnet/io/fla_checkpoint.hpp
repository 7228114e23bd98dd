// SPDX-License-Identifier: Apache-2.0
#pragma once

// Checkpoints of flash-linear-attention's LightNet, as save_pretrained of transformers leaves them: a folder with
// config.json and the weights, in model.safetensors or in several files that model.safetensors.index.json names.

#include <cstdint>
#include <filesystem>
#include <lightnet/io/weights.hpp>
#include <lightnet/model/fla_language_model.hpp>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

LIGHTNET_BEGIN_NAMESPACE

namespace io_detail {

/// A file that holds a JSON object.
class json_file {
 public:
  explicit json_file(std::filesystem::path path) : path_(std::move(path)) {
    const mapped_file file(path_);
    const auto* const text = reinterpret_cast<const char*>(file.bytes().data());
    object_ = nlohmann::json::parse(text, text + file.bytes().size(), nullptr, false);
    if (!object_.is_object()) fail("is not a JSON object");
  }

  [[nodiscard]] const nlohmann::json& object() const noexcept { return object_; }
  [[noreturn]] void fail(const std::string& reason) const { throw file_error(path_.string(), reason); }

  /// The value of that key; what does not say, or says null, means `otherwise`.
  template <class Value>
  [[nodiscard]] Value get(const char* key, Value otherwise) const {
    const auto found = object_.find(key);
    if (found == object_.end() || found->is_null()) return otherwise;
    const auto need = [&](bool good, const char* expected) {
      if (!good) fail(std::string{key} + " is " + text_of(*found) + ", expected " + expected);
    };
    if constexpr (std::is_same_v<Value, bool>) need(found->is_boolean(), "true or false");
    if constexpr (std::is_same_v<Value, std::int64_t>) need(found->is_number_integer(), "a whole number");
    if constexpr (std::is_same_v<Value, double>) need(found->is_number(), "a number");
    if constexpr (std::is_same_v<Value, std::string>) need(found->is_string(), "a string");
    return found->template get<Value>();
  }

  /// Throws file_error where the value is not the model's.
  template <class Value>
  void require(const char* key, const Value& otherwise, const Value& expected) const {
    const auto came = get<Value>(key, otherwise);
    if (came != expected) fail(std::string{key} + " is " + text_of(came) + ", expected " + text_of(expected));
  }

 private:
  static std::string text_of(const nlohmann::json& value) {
    if (value.is_structured()) return value.type_name();
    return value.is_string() ? printable(value.get_ref<const std::string&>()) : value.dump();
  }

  std::filesystem::path path_;
  nlohmann::json object_;
};

/// Checks what the tensors do not tell, and first what they would tell less clearly. Defaults are those of fla's LightNetConfig.
template <class Model>
void check_fla_configuration(const json_file& file) {
  using options = typename Model::options;
  constexpr std::int64_t width = options::width, heads = options::heads;
  file.require<std::string>("model_type", "", "lightnet");
  file.require<std::int64_t>("hidden_size", 2048, width);
  file.require<std::int64_t>("num_hidden_layers", 24, options::layers);
  file.require<std::int64_t>("vocab_size", 32000, options::vocabulary);
  file.require<bool>("tie_word_embeddings", false, options::tied_head);
  file.require<std::string>("hidden_act", "swish", "swish");
  file.require<double>("norm_eps", 1e-6, options::norm_epsilon);
  // The number of heads or the width of their keys follows from the other where that is given alone.
  const bool says_expand = !file.object().contains("expand_ratio") || !file.object()["expand_ratio"].is_null();
  const auto expand = says_expand ? file.get<std::int64_t>("expand_ratio", 128) : 0;
  file.require<std::int64_t>("num_heads", expand > 0 ? width / expand : 0, heads);
  if (says_expand) file.require<std::int64_t>("expand_ratio", 128, width / heads);
}

/// The files of weights of a checkpoint.
inline std::vector<safetensors_file> fla_weight_files(const std::filesystem::path& folder) {
  std::vector<safetensors_file> files;
  std::error_code unknown;
  if (const auto path = folder / "model.safetensors.index.json"; std::filesystem::exists(path, unknown)) {
    const json_file index(path);
    const auto map = index.object().find("weight_map");
    if (map == index.object().end() || !map->is_object()) index.fail("weight_map is not a JSON object");
    std::set<std::string> names;
    for (const auto& value : *map) {
      if (!value.is_string()) index.fail(std::string{"weight_map holds "} + value.type_name() + ", expected strings");
      const auto name = value.get<std::string>();
      if (name.empty() || std::filesystem::path(name).filename() != name) {
        index.fail("weight_map names " + printable(name) + ", not a file beside it");
      }
      names.insert(name);
    }
    for (const auto& name : names) files.emplace_back(folder / name);
  } else {
    files.emplace_back(folder / "model.safetensors");
  }
  return files;
}

}  // namespace io_detail

/// Reads the weights of fla's LightNet into the parameters of the same model here: numbers and layouts are fla's own, names
/// lack the "model." in front. The options of Model are fla_language_model_options, or derived from them. Throws file_error
/// where a file cannot be read, where config.json describes another model, and where the tensors are not those of the
/// model, which it lists; then the block is as it was.
template <class Model, class T, class Device>
void read_fla_checkpoint(const std::filesystem::path& folder, const Model&, parameter_block<T, Device>& to) {
  using options = typename Model::options;
  static_assert(std::is_same_v<typename options::recurrence, additive> &&
                    std::is_same_v<typename options::position, no_position> && options::modes == 0 &&
                    options::gate == gate_form::norm_then_gate && !options::norm_per_head,
                "lightnet: this is not fla's LightNet; derive the model's options from fla_language_model_options");
  io_detail::check_fla_configuration<Model>(io_detail::json_file(folder / "config.json"));
  const auto files = io_detail::fla_weight_files(folder);
  std::vector<stored_tensor> tensors;
  for (const auto& file : files) tensors.insert(tensors.end(), file.tensors().begin(), file.tensors().end());
  io_detail::read_weights(files.size() == 1 ? files.front().path() : folder, tensors, to, [](const std::string& name) {
    return name.starts_with("lm_head.") ? name : "model." + name;
  });
}

LIGHTNET_END_NAMESPACE
