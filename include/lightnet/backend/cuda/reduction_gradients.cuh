// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/reduction_tiles.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Which gradients of the global traversal Hopper's matrix units take: of weights that are the keys.
template <class Recurrence, class Position, class T>
inline constexpr bool takes_reduction_gradients =
    (takes_causal_tiles<Recurrence, Position, T> ||
     takes_encoding_walks<Recurrence, Position, T>)&&Recurrence::per_channel&& recurrence_job<Recurrence, Position, 1,
                                                                                              T>::keys_are_weights;

/// What the walks of one gradient read and write.
template <class Gradients>
struct total_gradients {
  decltype(Gradients::o) o;  // what comes back
  decltype(Gradients::q) q, k, v;
  bool accumulate;
  float* sum;             // [items, d', e] U, to be read, or [places, d', e] the parts of D, to be written
  const float* incoming;  // [items, d', e]: D / Z
  const float* owed;      // [items, d']: r / Z
};

/// A row of D = qhat^T do, divided by Z, and what the tokens owe the normaliser, r_i = sum_j U_ij D_ij / Z_i.
/// D is rounded to bfloat16 as it will be read: in D v - r, where terms nearly cancel, both have the same D. Least traffic:
/// the parts, U and D.
template <class Job>
struct add_incoming {
  Job job;
  line_stretches stretches;
  const float *parts, *sums;
  float *incoming, *owed;

  __device__ void operator()(const line_of_head& at, std::int64_t i) const {
    if (job.poisoned[at.item] != 0) return;
    const std::int64_t rows = job.from.stored_keys, values = job.from.values, row = at.item * rows + i;
    const std::int64_t count = stretches.count(at), first = stretches.places(at, 0);
    const float by = job.inverse[at.item * job.width + job.weight_of_row(i)];
    float d[elements_of_lane] = {}, u[elements_of_lane] = {}, r = 0;
    each_of_lane(values, [&](int n, int j) { u[n] = sums[row * values + j]; });
    for (std::int64_t s = 0; s < count; ++s) {
      const float* const part = parts + ((first + s) * rows + i) * values;
      each_of_lane(values, [&](int n, int j) { d[n] += part[j]; });
    }
    each_of_lane(values, [&](int n, int j) {
      const float rounded = lower_bfloat16(pack_bfloat16(by * d[n], 0.0F));
      incoming[row * values + j] = rounded;
      r = multiply_add(u[n], rounded, r);
    });
    r = sum_of_row(r);
    if (lane_of_row() == 0) owed[row] = by * r;
  }
};

/// The gradients of a global traversal, in walks whose tiles wait for no other. Gives the lines that are left over.
template <class Job, class Gradients>
const unsigned* walk_reduction_gradients(execution<cuda>& on, execution<cuda>::scope& scratch, const char* operation,
                                         Job job, const Gradients& gradients) {
  job.global = true;
  take_line_memory(on, scratch, operation, job);
  const auto& from = job.from;
  const std::int64_t items = from.items(), size = from.stored_keys * from.values;
  float *const sums = scratch.take<float>(items * size), *const incoming = scratch.take<float>(items * size),
               *const owed = scratch.take<float>(items * from.stored_keys);
  const line_stretches stretches = total_of_lines(on, scratch, operation, job, {}, sums);
  float* const parts = scratch.take<float>(stretches.places.count() * size);
  gradient_memory kept;
  kept.redo = job.poisoned;
  total_gradients<Gradients> walked{gradients.o,          gradients.q, gradients.k, gradients.v,
                                    gradients.accumulate, parts,       incoming,    owed};
  walk_lines<walk_for::incoming_sums>(on, operation, job, walked, stretches, kept);
  each_row_of_states(on, operation, job, add_incoming<Job>{job, stretches, parts, sums, incoming, owed});
  walked.sum = sums;
  if (gradients.q) walk_lines<walk_for::query_readings>(on, operation, job, walked, stretches, kept);
  if (gradients.k || gradients.v) walk_lines<walk_for::key_readings>(on, operation, job, walked, stretches, kept);
  return job.poisoned;
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
