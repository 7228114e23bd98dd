// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/line_stretches.cuh>

#include <algorithm>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

// Of large heads, walks that encode take 64 keys at a time: their cosines and sines with up to 128 values are a state for which
// there are registers. Weights, normalisers and gradients of keys and queries are those of a part alone; outputs, and gradients
// of values, are sums over the parts.

inline constexpr std::int64_t keys_of_part = 64, most_parts_of_keys = 128 / keys_of_part;

/// Whether walks take a head's keys in such parts: more keys or values than one tile for both the cosines and the sines.
template <class Job>
bool comes_in_parts(const Job& job) {
  return Job::position::encodes && (job.from.stored_keys / 2 > keys_of_part || job.from.values > keys_of_part);
}

/// Channels [first, first + count) of the keys of a head.
struct part_of_keys {
  std::int64_t first, count;

  template <class Sequence>
  Sequence of(const Sequence& sequence) const {
    return sequence ? sequence.slice_channels(first, count) : sequence;
  }
  /// The rows of their cosines come first, those of their sines half of the head's rows after these.
  template <class T>
  framed_state<T, cuda> of(framed_state<T, cuda> state) const {
    if (!state) return state;
    state.exponent = state.exponent.slice(2, first, count);
    state.normaliser = state.normaliser.slice(2, first, count);
    state.sum = state.sum.slice(2, first, state.sum.extent(2) - first);
    return state;
  }
  /// Those of the angles that these channels have.
  template <class Angles>
  Angles of_angles(const Angles& angles) const {
    const std::int64_t begin = std::min(first, angles.extent(2));
    return angles.slice(2, begin, std::min(count, angles.extent(2) - begin));
  }

  template <class Job>
  Job of_job(const Job& job) const {
    Job part = job;
    part.from.keys = part.width = count;
    part.from.q = of(job.from.q);
    part.from.k = of(job.from.k);
    part.from.cosine = of_angles(job.from.cosine);
    part.from.sine = of_angles(job.from.sine);
    part.from.state = of(job.from.state);
    return part;
  }
  template <class Outputs>
  Outputs of_outputs(const Outputs& outputs) const {
    Outputs part = outputs;
    part.state = of(outputs.state);
    part.accumulate = outputs.accumulate || first > 0;
    return part;
  }
  template <class Gradients>
  Gradients of_gradients(const Gradients& gradients) const {
    Gradients part = gradients;
    part.q = of(gradients.q);
    part.k = of(gradients.k);
    return part;
  }
};

/// Calls body(part) for every part of a head's keys.
template <class Job, class Body>
void each_part_of_keys(const Job& job, const Body& body) {
  for (std::int64_t first = 0; first < job.from.keys; first += keys_of_part) {
    body(part_of_keys{first, std::min(keys_of_part, job.from.keys - first)});
  }
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
