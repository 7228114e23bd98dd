// SPDX-License-Identifier: Apache-2.0
#pragma once

// Training on a text, tested on another.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <lightnet/train/checkpoint.hpp>
#include <optional>
#include <string>
#include <utility>

#include "bytes.hpp"
#include "curve_picture.hpp"
#include "machine.hpp"
#include "program.hpp"
#include "resume.hpp"
#include "text.hpp"
#include "text_settings.hpp"
#include "training_loop.hpp"
#include "training_options.hpp"

namespace examples {

/// A trainer on a text with what is around it: the device, the curve, and the files NAME.safetensors, NAME.csv and, where
/// there is a gnuplot, NAME_curve.png.
template <class Trainer>
class text_training {
 public:
  /// For so many pieces of a text, or as the checkpoint has it. Throws lightnet::value_error for arguments that contradict
  /// it, and lightnet::file_error for one of another text or program.
  text_training(std::string name, std::string description, const text_settings& chosen, const text_arguments& given,
                const std::optional<lightnet::checkpoint>& saved, const tokens& learned, std::int64_t pieces)
      : name_{std::move(name)},
        description_{std::move(description)},
        chosen_{chosen},
        machine_{given.threads},
        trainer_{{}, saved ? options_of(*saved, given, pieces) : options_for(chosen, pieces)},
        updates_{trainer_.options().epochs * lightnet::updates_of_epoch(pieces, trainer_.options().batch)},
        record_{updates_ / chosen.points, name_, "additive", learned.fingerprint()} {
    if (saved) record_.restore(*saved, trainer_, description_);
    folder_ = output_folder(given.output);
  }

  lightnet::execution<device>& on() noexcept { return machine_.on; }
  Trainer& trainer() noexcept { return trainer_; }
  [[nodiscard]] const recorder& record() const noexcept { return record_; }

  /// Says what is there.
  void introduce(std::int64_t learned, std::int64_t held_out) const {
    std::printf("LightNet: %s parameters, %s bytes to learn from, %s held out, %s\n",
                grouped(trainer_.parameters().size()).c_str(), grouped(learned).c_str(), grouped(held_out).c_str(),
                machine_.name().c_str());
    std::fflush(stdout);
  }

  /// Trains, and now and then tests on `some` and saves. False where Ctrl-C stopped it.
  template <class Source>
  bool run(Source& source, Source& some, const progress_words& words) {
    const training_plan plan{path_of(".safetensors"), chosen_.tests, chosen_.length, words};
    return run_training(
        on(), trainer_, source, record_, plan, [&] { return trainer_.evaluate(on(), some); },
        [&] { record_.save(plan.checkpoint, trainer_, description_); });
  }

  /// The last test, after which the curve is written.
  template <class Source>
  lightnet::evaluation test(Source& source) {
    const auto result = trainer_.evaluate(on(), source);
    record_.add_test(result);
    write_curve(path_of(".csv"), record_.curve());
    draw_curve(path_of(".csv"), record_.curve());
    return result;
  }

  /// Prints where the files are.
  void tell_paths() const { std::printf("%s\n%s\n", path_of(".safetensors").c_str(), path_of(".csv").c_str()); }

 private:
  static lightnet::trainer_options options_for(const text_settings& chosen, std::int64_t pieces) {
    auto options = training_options(chosen, pieces);
    options.shard = chosen.shard;
    options.optimiser.weight_decay = chosen.weight_decay;
    return options;
  }

  static const lightnet::trainer_options& options_of(const lightnet::checkpoint& saved, const text_arguments& given,
                                                     std::int64_t pieces) {
    const auto file = saved.path().string();
    agree(given, saved);
    agree("--shard", given.shard, saved.options().shard, file);
    check_progress(saved, pieces, "pieces of text");
    if (saved.state().items != pieces) {
      throw lightnet::file_error(file, "learns from " + std::to_string(saved.state().items) +
                                           " pieces of text, expected " + std::to_string(pieces));
    }
    return saved.options();
  }

  [[nodiscard]] std::filesystem::path path_of(const char* extension) const { return folder_ / (name_ + extension); }

  std::string name_, description_;
  text_settings chosen_;
  machine machine_;
  Trainer trainer_;
  std::int64_t updates_;
  recorder record_;
  std::filesystem::path folder_;
};

}  // namespace examples
