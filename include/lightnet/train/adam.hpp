// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/adam.hpp>
#include <lightnet/backend/for_each.hpp>
#include <lightnet/core/decimal.hpp>
#include <lightnet/train/master_parameters.hpp>
#include <lightnet/train/schedule.hpp>

#include <algorithm>
#include <cmath>
#include <utility>

LIGHTNET_BEGIN_NAMESPACE

/// Adam (arXiv 1412.6980) with bias corrections, and weight decay of the parameters whose description says that they decay:
/// apart from the gradient, which is AdamW (arXiv 1711.05101), or added to the gradient, after that was clipped. The norm of
/// all gradients together is clipped where the options say so.
/// Gradients that are not finite, or whose squares a parameter cannot hold, change nothing: the update is skipped and
/// counted. Gradients are of T, parameters and moments of accumulator<T>; see master_parameters.
/// An update is a function of its arguments and of the state in the memory of the device alone; it allocates nothing,
/// and the number of threads changes no bit.
template <class T = float, class Device = cpu>
class adam {
 public:
  using number = accumulator<T>;

  /// An optimiser for parameters with these parts. Throws value_error for options that make no optimiser.
  explicit adam(const parameter_block<number, Device>& parameters, const adam_options& options = {})
      : options_{options}, first_{parameters.like()}, second_{parameters.like()} {
    options.check();
    const std::vector<detail::decay_run> runs = runs_of(parameters);
    runs_.resize({{static_cast<std::int64_t>(runs.size())}});
    Device::copy(runs_.data(), runs.data(), runs.size() * sizeof runs[0]);
    state_.resize({{1}});
    restore({});
  }

  const adam_options& options() const noexcept { return options_; }

  /// The rate of the updates that begin after this; those that an execution still has to do may take it or the rate before.
  /// Throws value_error unless it is finite and zero or more.
  void set_learning_rate(double rate) {
    if (!(std::isfinite(rate) && rate >= 0)) {
      throw value_error("adam", "learning rate", "a finite number, zero or more", detail::decimal(rate));
    }
    Device::copy(&state_.data()->learning_rate, &rate, sizeof rate);
  }

  /// The same as a call of the execution: the rate of the next update is what the schedule says after as many as were done
  /// or skipped, which the memory of the device knows.
  void take_rate(execution<Device>& on, const learning_rate_schedule& schedule) {
    detail::for_each_row(on, "adam", 1, 1, scheduled_rate{schedule, state_.data()});
  }

  /// One update of the parameters. Throws shape_error where the blocks are not of the optimiser's size.
  void step(execution<Device>& on, parameter_block<number, Device>& parameters,
            const parameter_block<T, Device>& gradients) {
    static_assert(
        std::is_same_v<T, number>,
        "lightnet::adam: parameters of two bytes lose small updates; give step a lightnet::master_parameters");
    update(on, parameters, {}, gradients);
  }
  /// The same; a rounded copy of the parameters is written as they change, in the same pass.
  void step(execution<Device>& on, master_parameters<T, Device>& parameters,
            const parameter_block<T, Device>& gradients) {
    update(on, parameters.master_, parameters.rounded_.view(), gradients);
  }

  /// Counters, rate and norm, read from the memory of the device: after the updates, where an execution did them.
  adam_state state() const {
    adam_state host;
    Device::copy(&host, state_.data(), sizeof host);
    return host;
  }
  /// Goes on from a saved state; the moments are the caller's to fill.
  void restore(const adam_state& state) { Device::copy(state_.data(), &state, sizeof state); }

  /// The running means of the gradients and of their squares.
  const parameter_block<number, Device>& first_moment() const noexcept { return first_; }
  const parameter_block<number, Device>& second_moment() const noexcept { return second_; }
  parameter_block<number, Device>& first_moment() noexcept { return first_; }
  parameter_block<number, Device>& second_moment() noexcept { return second_; }

  // What the backend calls is public, for nvcc makes no kernel of a private type.
  struct scheduled_rate {
    learning_rate_schedule schedule;
    adam_state* state;
    LIGHTNET_HOST_DEVICE void operator()(std::int64_t, std::int64_t, std::int64_t) const noexcept {
      state->learning_rate = schedule(state->updates + state->skipped);
    }
  };

 private:
  /// The block in pieces whose parameters decay alike; what no parameter describes does not decay.
  static std::vector<detail::decay_run> runs_of(const parameter_block<number, Device>& parameters) {
    std::vector<detail::decay_run> decaying;
    for (const parameter& part : parameters.index()) {
      if (part.decays) decaying.push_back({part.offset, part.size(), true});
    }
    std::sort(decaying.begin(), decaying.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<detail::decay_run> runs;
    const auto append = [&runs](std::int64_t first, std::int64_t end, bool decays) {
      constexpr std::int64_t longest = detail::decay_run::longest;
      for (; first < end; first += longest) runs.push_back({first, std::min(longest, end - first), decays});
    };
    std::int64_t end = 0;
    for (const detail::decay_run& part : decaying) {
      append(end, part.first, false);
      append(part.first, part.first + part.count, true);
      end = part.first + part.count;
    }
    append(end, parameters.size(), false);
    return runs;
  }

  void update(execution<Device>& on, parameter_block<number, Device>& parameters,
              const dynamic_view<1, T, Device>& rounded, const parameter_block<T, Device>& gradients) {
    need_size("parameters", parameters.size());
    need_size("gradients", gradients.size());
    detail::adam_update<T>(on, options_, std::as_const(runs_).view(), state_.data(),
                           {parameters.view(), first_.view(), second_.view(), gradients.view(), rounded});
  }

  void need_size(const char* argument, std::int64_t size) const {
    if (size != first_.size()) {
      throw shape_error("adam", argument, std::to_string(first_.size()) + " numbers", std::to_string(size));
    }
  }

  adam_options options_;
  parameter_block<number, Device> first_, second_;
  tensor<rank<1>, detail::decay_run, Device> runs_;
  tensor<rank<1>, adam_state, Device> state_;  // [1]
};

LIGHTNET_END_NAMESPACE
