// SPDX-License-Identifier: Apache-2.0
#pragma once

// The learning curve while it grows, and how a checkpoint keeps it.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <lightnet/train/checkpoint.hpp>
#include <limits>
#include <span>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "curve.hpp"

namespace examples {

/// Points of the curve, each the mean of the updates since the last, and the seconds of training so far.
class recorder {
 public:
  /// A point every `interval` updates, at a test, and at the end of an epoch; `program` trains, `mixer` is the name of what is
  /// trained, and `data` the fingerprint of what it is trained on. Where that gives no answers that are right or wrong, there
  /// is no accuracy.
  recorder(std::int64_t interval, std::string program, std::string mixer, std::string data, bool answers = true)
      : interval_(std::max<std::int64_t>(interval, 1)),
        program_(std::move(program)),
        mixer_(std::move(mixer)),
        data_(std::move(data)),
        answers_(answers) {}

  /// Throws lightnet::file_error for a checkpoint that another program made.
  static void check_program(const lightnet::checkpoint& saved, const std::string& program) {
    const auto& maker = said(saved, "program");
    if (maker == program) return;
    throw lightnet::file_error(saved.path().string(), "was made by the program " +
                                                          lightnet::io_detail::printable(maker) + ", expected " +
                                                          lightnet::io_detail::printable(program));
  }

  /// The name of the mixer that a checkpoint was made with. Throws lightnet::file_error where it does not say.
  static const std::string& mixer_of(const lightnet::checkpoint& saved) { return said(saved, "mixer"); }

  [[nodiscard]] std::span<const curve_point> curve() const noexcept { return curve_; }
  [[nodiscard]] double seconds() const noexcept { return window_[3]; }
  [[nodiscard]] bool answers() const noexcept { return answers_; }

  /// What an update gave; a test may follow it.
  void add(const lightnet::training_progress& now, double seconds, double items_per_second, bool tested) {
    window_[0] += now.update.loss * static_cast<double>(now.update.counted);
    window_[1] += static_cast<double>(now.update.correct);
    window_[2] += static_cast<double>(now.update.counted);
    window_[3] += seconds;
    if (now.step % interval_ != 0 && !tested && !now.epoch_finished) return;
    curve_point point;
    point.epoch = now.epoch + 1;
    point.step = now.step;
    point.loss = window_[0] / window_[2];
    point.train_accuracy = answers_ ? window_[1] / window_[2] : std::numeric_limits<double>::quiet_NaN();
    point.learning_rate = now.update.learning_rate;
    point.items_per_second = items_per_second;
    curve_.push_back(point);
    std::fill_n(window_.begin(), 3, 0.0);
  }

  /// What a test after the last update gave: to the point at it.
  void add_test(const lightnet::evaluation& result) {
    if (curve_.empty()) return;
    curve_.back().test_loss = result.loss;
    if (answers_) curve_.back().test_accuracy = result.accuracy();
  }

  /// Saves a checkpoint with the curve in it, and other tensors of the caller.
  template <class Trainer>
  void save(const std::filesystem::path& path, const Trainer& trainer, const std::string& description,
            std::vector<lightnet::stored_tensor> others = {}) const {
    const auto values = curve_values(curve_);
    const std::vector<std::int64_t> shape{static_cast<std::int64_t>(curve_.size()), curve_point::size};
    lightnet::checkpoint_extras extras{{}, std::move(others)};
    extras.metadata["program"] = program_;
    extras.metadata["description"] = description;
    extras.metadata["mixer"] = mixer_;
    extras.metadata["data"] = data_;
    extras.tensors.push_back(lightnet::store("curve", shape, std::span<const double>(values)));
    extras.tensors.push_back(lightnet::store("window", {4}, std::span<const double>(window_)));
    lightnet::save_checkpoint(path, trainer, extras);
  }

  /// Goes on from a checkpoint, and the trainer with it; the names of the caller's other tensors begin with `others`. Throws
  /// lightnet::file_error where it was made by something else or from other data, and then changes nothing.
  template <class Trainer, class... Others>
  void restore(const lightnet::checkpoint& saved, Trainer& trainer, const std::string& description, Others... others) {
    const auto fail = [&saved](const std::string& reason) {
      throw lightnet::file_error(saved.path().string(), reason);
    };
    const auto printable = [](const std::string& text) { return lightnet::io_detail::printable(text); };
    check_program(saved, program_);
    const auto& mixer = mixer_of(saved);
    if (mixer != mixer_) fail("was made with the mixer " + printable(mixer) + ", expected " + printable(mixer_));
    const auto& before = said(saved, "description");
    if (before != description) {
      fail("was made with other settings, or by another version of this program: " +
           printable(words_beyond(before, description)) + ", expected " + printable(words_beyond(description, before)));
    }
    const auto& data = said(saved, "data");
    if (data != data_) fail("was trained on other data, of fingerprint " + printable(data) + ", expected " + data_);
    const auto numbers = [&](const char* name, auto fits) {
      const auto* tensor = saved.extra(name);
      if (tensor == nullptr || tensor->type != lightnet::stored_type::f64 || !fits(tensor->shape)) {
        fail(std::string{"holds no "} + name + " as this program writes it");
      }
      std::vector<double> values(tensor->data.size() / sizeof(double));
      if (!values.empty()) std::memcpy(values.data(), tensor->data.data(), tensor->data.size());
      return values;
    };
    using shape = std::vector<std::int64_t>;
    const auto window = numbers("window", [](const shape& extents) { return extents == shape{4}; });
    const auto values = numbers("curve", [](const shape& extents) {
      return extents.size() == 2 && extents[1] == static_cast<std::int64_t>(curve_point::size);
    });
    std::vector<curve_point> curve;
    try {
      curve = curve_from_values(values);
    } catch (const lightnet::error& wrong) {
      fail(wrong.what());
    }
    saved.load(trainer, {"curve", "window", others...});
    curve_ = std::move(curve);
    std::ranges::copy(window, window_.begin());
  }

 private:
  static const std::string& said(const lightnet::checkpoint& saved, const char* what) {
    const auto found = saved.extras().find(what);
    if (found == saved.extras().end()) {
      throw lightnet::file_error(saved.path().string(), std::string{"does not say its "} + what +
                                                            ", expected a checkpoint of a program of the examples");
    }
    return found->second;
  }

  /// The words of a text that another lacks.
  static std::string words_beyond(const std::string& text, const std::string& other) {
    const std::string surrounded = ' ' + other + ' ';
    std::istringstream words(text);
    std::string beyond;
    for (std::string word; words >> word;) {
      if (surrounded.find(' ' + word + ' ') != std::string::npos) continue;
      beyond.append(beyond.empty() ? "" : " ").append(word);
    }
    return beyond;
  }

  std::int64_t interval_;
  std::string program_, mixer_, data_;
  bool answers_;
  std::vector<curve_point> curve_;
  std::array<double, 4> window_{};  // since the last point: loss added up, right, counted; seconds since the start
};

}  // namespace examples
