// SPDX-License-Identifier: Apache-2.0
#pragma once

// Training in sight of somebody, who may stop it.

#include <algorithm>
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

/// What belongs to an update of a trainer and nothing else.
struct no_more {
  void operator()(const lightnet::training_progress&) const noexcept {}
};

/// Trains to the end with a bar, whose items are `parts_of_item` to an item of the source, and keeps the curve. To every
/// update belongs `more(progress)`, and after it comes `after(progress, bar)`, whose time does not count. False where
/// Ctrl-C stopped it: then `save()` was called, and how to go on from the checkpoint was told.
template <class Trainer, class Source, class Save, class After, class More = no_more>
bool run_training(lightnet::execution<device>& on, Trainer& trainer, Source& source, recorder& record,
                  const progress_words& words, std::int64_t parts_of_item, const std::filesystem::path& checkpoint,
                  const Save& save, const After& after, const More& more = {}) {
  const auto batch = std::min(trainer.options().batch, source.size());
  const auto updates_of_epoch = lightnet::updates_of_epoch(source.size(), batch);
  const auto updates = trainer.options().epochs * updates_of_epoch;
  stop_on_signals();
  bool finished = false;
  {
    progress_bar bar{stdout, updates, updates_of_epoch, batch * parts_of_item, trainer.state().step, words};
    auto last = steady_clock::now();
    finished = trainer.run(on, source, stop, [&](const lightnet::training_progress& now) {
      more(now);
      bar.update(now.step, now.loss, record.accuracy(now));
      record.add(now, seconds_since(last), bar.items_per_second() / static_cast<double>(parts_of_item));
      after(now, bar);
      last = steady_clock::now();
    });
  }
  if (finished) {
    end_on_signals();
  } else {
    save();
    std::printf("stopped after update %lld of %lld; to go on: --resume %s\n",
                static_cast<long long>(trainer.state().step), static_cast<long long>(updates), checkpoint.c_str());
  }
  return finished;
}

}  // namespace examples
