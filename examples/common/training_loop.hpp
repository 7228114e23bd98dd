// SPDX-License-Identifier: Apache-2.0
#pragma once

// Training in sight of somebody, who may stop it, with a test now and then.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <lightnet/train/trainer.hpp>

#include "machine.hpp"
#include "progress.hpp"
#include "recorder.hpp"
#include "seconds.hpp"
#include "stop.hpp"

namespace examples {

/// What there is to a training beside trainer and data.
struct training_plan {
  std::filesystem::path checkpoint;
  std::int64_t tests = 8;          // in the course of training
  std::int64_t parts_of_item = 1;  // what the bar counts, in an item of the source
  progress_words words{};
};

/// Trains to the end with a bar, and keeps the curve; now and then, and at the end, comes `test()`, the evaluation of what is
/// held out or of a part of it, and `save()`. After every update comes `follow()`. False where Ctrl-C stopped it: then
/// `save()` was called, and how to go on from the checkpoint was told.
template <class Trainer, class Source, class Test, class Save, class Follow>
bool run_training(lightnet::execution<device>& on, Trainer& trainer, Source& source, recorder& record,
                  const training_plan& plan, const Test& test, const Save& save, const Follow& follow) {
  const auto batch = std::min(trainer.options().batch, source.size());
  const auto updates_of_epoch = lightnet::updates_of_epoch(source.size(), batch);
  const auto updates = trainer.options().epochs * updates_of_epoch;
  const auto shown = [&record](double accuracy) { return record.answers() ? accuracy : std::nan(""); };
  stop_on_signals();
  bool finished = false;
  {
    progress_bar bar{stdout, updates, updates_of_epoch, batch * plan.parts_of_item, trainer.state().step, plan.words};
    auto last = steady_clock::now();
    finished = trainer.run(on, source, stop, [&](const lightnet::training_progress& now) {
      follow();
      bar.update(now.step, now.loss, shown(now.accuracy));
      const bool tested = now.step * plan.tests / updates != (now.step - 1) * plan.tests / updates;
      record.add(now, seconds_since(last), bar.items_per_second() / static_cast<double>(plan.parts_of_item), tested);
      if (tested) {
        const lightnet::evaluation result = test();
        record.add_test(result);
        save();
        bar.test(result.loss, shown(result.accuracy()));
      }
      last = steady_clock::now();
    });
  }
  if (finished) {
    end_on_signals();
  } else {
    save();
    std::printf("stopped after update %lld of %lld; to go on: --resume %s\n",
                static_cast<long long>(trainer.state().step), static_cast<long long>(updates), plan.checkpoint.c_str());
  }
  return finished;
}

/// The same with nothing to follow an update.
template <class Trainer, class Source, class Test, class Save>
bool run_training(lightnet::execution<device>& on, Trainer& trainer, Source& source, recorder& record,
                  const training_plan& plan, const Test& test, const Save& save) {
  return run_training(on, trainer, source, record, plan, test, save, [] {});
}

}  // namespace examples
