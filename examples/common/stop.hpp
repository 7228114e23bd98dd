// SPDX-License-Identifier: Apache-2.0
#pragma once

// An end that loses nothing.

#include <atomic>
#include <csignal>

namespace examples {

inline std::atomic<bool> stop{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may only touch what needs no lock");

/// Ctrl-C asks for an end after the update; a second one ends at once.
inline void stop_on_signals() {
  struct sigaction action {};
  action.sa_handler = [](int) { stop.store(true); };
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}
inline void end_on_signals() {
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

}  // namespace examples
