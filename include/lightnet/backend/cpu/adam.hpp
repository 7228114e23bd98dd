// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/adam.hpp>
#include <lightnet/backend/cpu/reduce.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The sum of the squares, in double: blocks of a fixed size and a tree over them, whatever the number of threads.
template <class T>
double sum_of_squares(execution<cpu>& on, const dynamic_view<1, const T, cpu>& x) {
  constexpr std::int64_t block = 4096;
  const std::int64_t blocks = block_range::blocks(block, x.size());
  execution<cpu>::scope scratch{on};
  double* const parts = scratch.take<double>(blocks + 1);
  parts[0] = 0;
  parallel_for(on, blocks, [&](std::int64_t index, int) {
    const block_range part{index, block, x.size()};
    const auto square = [](const T& each) {
      const auto wide = static_cast<double>(each);
      return sums<double, 1>{{wide * wide}};
    };
    parts[index] = sum_row<double, 1>(square, part.last - part.first, x.data() + part.first).values[0];
  });
  for (std::int64_t step = 1; step < blocks; step *= 2) {
    for (std::int64_t i = 0; i + step < blocks; i += 2 * step) parts[i] += parts[i + step];
  }
  return parts[0];
}

/// One update, or none where the squares of the gradients add up to more than a parameter can hold, or to NaN.
template <class T>
void adam_update(execution<cpu>& on, const adam_options& options, const dynamic_view<1, const decay_run, cpu>& runs,
                 adam_state* state, const adam_arguments<T, cpu>& a) {
  const auto decision = decide_update<accumulator<T>>(options, sum_of_squares(on, a.gradients), *state);
  if (decision.skips) return;
  a.pass_to([&](auto*... data) {
    parallel_for(on, runs.size(), [&](std::int64_t index, int) {
      const decay_run& run = runs(index);
      map_row(run.decays ? decision.decaying : decision.kept, run.count, data + run.first...);
    });
  });
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
