// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which of its mixers a program is to use.

#include <array>
#include <cstddef>
#include <lightnet/train/checkpoint.hpp>
#include <optional>
#include <string>

#include "recorder.hpp"

namespace examples {

/// The mixer that was asked for, or that a checkpoint was made with, or the first. A Mixer has a name. Throws value_error for
/// a name that is none or not the checkpoint's, and lightnet::file_error for a checkpoint with another mixer than these.
template <class Mixer, std::size_t Count>
const Mixer& chosen_mixer(const std::array<const Mixer*, Count>& mixers, const std::optional<std::string>& given,
                          const std::optional<lightnet::checkpoint>& saved) {
  const std::string name = saved ? recorder::mixer_of(*saved) : given.value_or(mixers[0]->name);
  if (saved && given && *given != name) {
    throw lightnet::value_error("--resume", "--mixer", name + " as in " + saved->path().string() + ", or nothing",
                                *given);
  }
  std::string names;
  for (const Mixer* one : mixers) {
    if (name == one->name) return *one;
    names.append(names.empty() ? "" : ", ").append(one->name);
  }
  if (saved) {
    throw lightnet::file_error(
        saved->path().string(),
        "was made with the mixer " + lightnet::io_detail::printable(name) + ", expected one of " + names);
  }
  throw lightnet::value_error("chosen_mixer", "--mixer", "one of " + names, name);
}

}  // namespace examples
