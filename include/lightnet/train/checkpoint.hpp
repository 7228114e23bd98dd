// SPDX-License-Identifier: Apache-2.0
#pragma once

// Checkpoints of a trainer, as safetensors files: each parameter under its own name, the moments of the optimiser under
// "optimizer.first." and "optimizer.second." and that name, tensors of the caller under "extra.", and everything else in
// the metadata: whole numbers in decimal, others in hexadecimal (as C's %a, without the 0x), so that they come back bit
// for bit. Needs the component io.

#include <lightnet/core/decimal.hpp>
#include <lightnet/io/safetensors.hpp>
#include <lightnet/io/weights.hpp>
#include <lightnet/train/trainer.hpp>

#include <charconv>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

LIGHTNET_BEGIN_NAMESPACE

/// What a caller keeps in a checkpoint beside the trainer.
struct checkpoint_extras {
  std::map<std::string, std::string> metadata;
  std::vector<stored_tensor> tensors;  ///< the bytes are the caller's
};

namespace detail {

inline constexpr std::string_view checkpoint_format = "lightnet checkpoint", checkpoint_version = "1";
inline constexpr std::string_view first_moment_prefix = "optimizer.first.", second_moment_prefix = "optimizer.second.",
                                  extra_prefix = "extra.";

template <class Number>
std::string number_text(Number value) {
  char text[64];
  char* end = nullptr;
  if constexpr (std::is_integral_v<Number>) {
    end = std::to_chars(text, text + sizeof text, value).ptr;
  } else {
    end = std::to_chars(text, text + sizeof text, value, std::chars_format::hex).ptr;  // exact
  }
  return {text, end};
}

/// The whole text as a finite number; false where it is none.
template <class Number>
bool parse_number(const std::string& text, Number& value) {
  const char* const end = text.data() + text.size();
  std::from_chars_result result{};
  if constexpr (std::is_integral_v<Number>) {
    result = std::from_chars(text.data(), end, value);
  } else {
    result = std::from_chars(text.data(), end, value, std::chars_format::hex);
    if (!std::isfinite(value)) return false;
  }
  return result.ec == std::errc{} && result.ptr == end;
}

inline std::string number_text(bool value) { return value ? "true" : "false"; }
inline bool parse_number(const std::string& text, bool& value) {
  value = text == "true";
  return value || text == "false";
}

inline constexpr std::string_view shape_names[] = {"constant", "cosine", "inverse_square_root"};

inline bool parse_number(const std::string& text, learning_rate_schedule::shapes& value) {
  for (int i = 0; i < 3; ++i) {
    if (text != shape_names[i]) continue;
    value = static_cast<learning_rate_schedule::shapes>(i);
    return true;
  }
  return false;
}
inline std::string number_text(learning_rate_schedule::shapes value) {
  return std::string{shape_names[static_cast<int>(value)]};
}

/// What the text of a value must be.
template <class Value>
constexpr const char* form_of() {
  if (std::is_same_v<Value, bool>) return "true or false";
  if (std::is_enum_v<Value>) return "constant, cosine or inverse_square_root";
  return std::is_integral_v<Value> ? "a whole number" : "a finite number in hexadecimal";
}

/// A value for people.
template <class Value>
std::string readable(const Value& value) {
  if constexpr (std::is_floating_point_v<Value>) {
    return decimal(value);
  } else {
    return number_text(value);
  }
}

/// Everything of a checkpoint that is no tensor: one list of fields for writing and reading.
struct checkpoint_numbers {
  trainer_options options;
  training_state state;
  adam_state optimiser;

  template <class Options, class Visit>
  static void visit_options(Options& options, const Visit& field) {
    field("options.seed", options.seed);
    field("options.batch", options.batch);
    field("options.epochs", options.epochs);
    field("options.shard", options.shard);
    field("options.patience", options.patience);
    field("options.smoothing", options.smoothing);
    field("options.optimizer.beta1", options.optimiser.beta1);
    field("options.optimizer.beta2", options.optimiser.beta2);
    field("options.optimizer.epsilon", options.optimiser.epsilon);
    field("options.optimizer.weight_decay", options.optimiser.weight_decay);
    field("options.optimizer.decoupled_weight_decay", options.optimiser.decoupled_weight_decay);
    field("options.optimizer.clip_norm", options.optimiser.clip_norm);
    field("options.schedule.shape", options.schedule.shape);
    field("options.schedule.peak", options.schedule.peak);
    field("options.schedule.warmup", options.schedule.warmup);
    field("options.schedule.total", options.schedule.total);
    field("options.schedule.floor", options.schedule.floor);
  }

  template <class Visit>
  void visit(const Visit& field) {
    visit_options(options, field);
    field("state.step", state.step);
    field("state.epoch", state.epoch);
    field("state.position", state.position);
    field("state.items", state.items);
    field("state.loss", state.loss);
    field("state.correct", state.correct);
    field("state.counted", state.counted);
    field("optimizer.updates", optimiser.updates);
    field("optimizer.skipped", optimiser.skipped);
    field("optimizer.skipped_in_row", optimiser.skipped_in_row);
  }

  /// Every setting that is another one here, as "schedule.peak: 0.001 in the checkpoint, 0.002 here; ...".
  std::string differences(const trainer_options& here) const {
    std::vector<std::string> values;
    visit_options(here, [&](const char*, const auto& value) { values.push_back(readable(value)); });
    std::string all;
    std::size_t at = 0;
    visit_options(options, [&](std::string_view name, const auto& saved) {
      const std::string& value = values[at++];
      if (readable(saved) == value) return;
      name.remove_prefix(std::string_view{"options."}.size());
      all.append(all.empty() ? "" : "; ").append(name).append(": ").append(readable(saved));
      all.append(" in the checkpoint, ").append(value).append(" here");
    });
    return all;
  }
};

}  // namespace detail

/// Saves a trainer whole, of any device, whose execution has done its steps; the file is replaced at once or stays as it
/// was. Throws file_error where it cannot be written, and value_error for a state that is not finite.
template <class Model, class T, class Device>
void save_checkpoint(const std::filesystem::path& path, const trainer<Model, T, Device>& from,
                     const checkpoint_extras& extras = {}) {
  const io_detail::values_on_host parameters{from.parameters()}, first{from.optimiser().first_moment()},
      second{from.optimiser().second_moment()};
  std::vector<stored_tensor> tensors;
  const auto append = [&](std::string_view prefix, const auto& values) {
    for (const parameter& part : from.parameters().index()) {
      tensors.push_back(store(std::string{prefix} + part.name, part.shape, values[part]));
    }
  };
  append({}, parameters);
  append(detail::first_moment_prefix, first);
  append(detail::second_moment_prefix, second);
  for (stored_tensor extra : extras.tensors) {
    extra.name.insert(0, detail::extra_prefix);
    tensors.push_back(std::move(extra));
  }
  std::map<std::string, std::string> metadata{{"format", std::string{detail::checkpoint_format}},
                                              {"format.version", std::string{detail::checkpoint_version}}};
  detail::checkpoint_numbers numbers{from.options(), from.state(), from.optimiser().state()};
  numbers.visit([&](const char* name, const auto& value) { metadata[name] = detail::number_text(value); });
  for (const auto& [name, value] : extras.metadata) metadata[std::string{detail::extra_prefix} + name] = value;
  write_safetensors(path, tensors, metadata);
}

/// A checkpoint, read and checked as far as it can be without a trainer. Throws file_error, naming file and reason.
class checkpoint {
 public:
  explicit checkpoint(const std::filesystem::path& path) : file_{path} {
    need_text("format", detail::checkpoint_format);
    need_text("format.version", detail::checkpoint_version);
    std::set<std::string, std::less<>> known{"format", "format.version"};
    numbers_.visit([&](const char* name, auto& value) {
      known.insert(name);
      if (!detail::parse_number(text(name), value)) {
        wrong_text(name, detail::form_of<std::remove_cvref_t<decltype(value)>>());
      }
    });
    for (const auto& [name, value] : file_.metadata()) {
      if (name.starts_with(detail::extra_prefix)) {
        extras_[name.substr(detail::extra_prefix.size())] = value;
      } else if (!known.contains(name)) {
        fail("unknown metadata " + io_detail::printable(name));
      }
    }
    const adam_state& optimiser = numbers_.optimiser;
    const std::int64_t steps = state().step;
    if (optimiser.updates < 0 || optimiser.skipped_in_row < 0 || optimiser.skipped < optimiser.skipped_in_row ||
        steps < optimiser.updates || steps - optimiser.updates != optimiser.skipped) {
      fail("the counters contradict each other: " + std::to_string(steps) + " steps, of which " +
           std::to_string(optimiser.updates) + " updated, " + std::to_string(optimiser.skipped) + " were skipped and " +
           std::to_string(optimiser.skipped_in_row) + " of these came last");
    }
    explain([&] { options().check(); });
  }

  const std::filesystem::path& path() const noexcept { return file_.path(); }

  /// The settings of the training: those of the trainer that goes on.
  const trainer_options& options() const noexcept { return numbers_.options; }
  const training_state& state() const noexcept { return numbers_.state; }

  /// What the caller saved; `extra` gives the tensor of that name or null.
  const std::map<std::string, std::string>& extras() const noexcept { return extras_; }
  const stored_tensor* extra(std::string_view name) const {
    return file_.find(std::string{detail::extra_prefix}.append(name));
  }

  /// Brings the trainer to where it was saved. Throws file_error where tensors are missing, left over, or of another type or
  /// shape, or settings differ, all of which it lists, and for numbers that are not finite; then the trainer is as it was. Of
  /// the caller's tensors those are not left over whose names begin with one of `extras`.
  template <class Model, class T, class Device>
  void load(trainer<Model, T, Device>& to, std::initializer_list<std::string_view> extras = {}) const {
    if (to.options() != options()) fail("its settings differ: " + numbers_.differences(to.options()));
    constexpr auto type = stored_type_of<accumulator<T>>::value;
    std::vector<expected_tensor> expected;
    for (const std::string_view prefix :
         {std::string_view{}, detail::first_moment_prefix, detail::second_moment_prefix}) {
      for (const parameter& part : to.parameters().index()) {
        expected.push_back({std::string{prefix} + part.name, part.shape, {type}});
      }
    }
    std::vector<std::string> names;
    for (const std::string_view extra : extras) names.push_back(std::string{detail::extra_prefix}.append(extra));
    require_tensors(file_.path(), file_.tensors(), expected, std::vector<std::string_view>(names.begin(), names.end()));
    for (const expected_tensor& each : expected) {
      check_values<accumulator<T>>(*file_.find(each.name), each.name.starts_with(detail::second_moment_prefix));
    }
    explain([&] { to.check(state()); });
    auto parameters = to.parameters();
    read({}, parameters);
    to.set_parameters(std::move(parameters));
    read(detail::first_moment_prefix, to.optimiser().first_moment());
    read(detail::second_moment_prefix, to.optimiser().second_moment());
    to.optimiser().restore(numbers_.optimiser);
    to.restore(state());
  }

 private:
  [[noreturn]] void fail(const std::string& reason) const {
    throw file_error(file_.path().string(), "as a checkpoint: " + reason);
  }

  /// What is wrong with a value is wrong with the file.
  template <class Check>
  void explain(const Check& check) const {
    try {
      check();
    } catch (const value_error& wrong) {
      fail(wrong.what());
    }
  }

  const std::string& text(const std::string& name) const {
    const auto found = file_.metadata().find(name);
    if (found == file_.metadata().end()) fail("no metadata " + name);
    return found->second;
  }

  void need_text(const char* name, std::string_view expected) const {
    if (text(name) != expected) wrong_text(name, io_detail::printable(expected));
  }

  [[noreturn]] void wrong_text(const char* name, const std::string& expected) const {
    fail(std::string{"metadata "} + name + " is " + io_detail::printable(text(name)) + ", expected " + expected);
  }

  /// What training can go on with: finite numbers, means of squares not negative.
  template <class T>
  void check_values(const stored_tensor& tensor, bool squares) const {
    T value{};
    for (std::size_t at = 0; at < tensor.data.size(); at += sizeof value) {
      std::memcpy(&value, tensor.data.data() + at, sizeof value);
      if (!std::isfinite(value) || (squares && value < T(0))) {
        fail("tensor " + io_detail::printable(tensor.name) + " holds " + detail::decimal(value) +
             ", expected finite numbers" + (squares ? ", zero or more" : ""));
      }
    }
  }

  template <class T, class Device>
  void read(std::string_view prefix, parameter_block<T, Device>& to) const {
    std::vector<T> values(static_cast<std::size_t>(to.size()));
    Device::copy(values.data(), to.view().data(), values.size() * sizeof(T));  // what no parameter describes stays
    for (const parameter& part : to.index()) {
      file_.read(
          std::string{prefix} + part.name, part.shape,
          std::span(values).subspan(static_cast<std::size_t>(part.offset), static_cast<std::size_t>(part.size())));
    }
    Device::copy(to.view().data(), values.data(), values.size() * sizeof(T));
  }

  safetensors_file file_;
  detail::checkpoint_numbers numbers_{};
  std::map<std::string, std::string> extras_;
};

LIGHTNET_END_NAMESPACE
