// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/causal_tiles.cuh>
#include <lightnet/backend/cuda/key_parts.cuh>
#include <lightnet/backend/cuda/line_states.cuh>
#include <lightnet/backend/cuda/walk_loaders.cuh>
#include <lightnet/backend/cuda/walk_preparers.cuh>
#include <lightnet/backend/cuda/walk_readers.cuh>
#include <lightnet/backend/cuda/walk_readings.cuh>
#include <lightnet/backend/cuda/walk_spacers.cuh>
#include <lightnet/backend/cuda/walk_weighers.cuh>

#include <array>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// A walk along the lines on Hopper's matrix units, a block a line and head, or a stretch of one: the copy engine reads
/// tiles of 64 tokens (operand_maps) or, where it cannot, some warps do (walk_loaders), which make their factors
/// (walk_weighers, walk_preparers) or work out how far their tokens are apart (walk_spacers); others multiply, a tile behind
/// (walk_readers, walk_readings). Least traffic a token: every operand read once, every gradient or output written once; a
/// gradient's R, which is float, besides. Tile: 64 tokens, all channels of the operands, in shared memory; the state in
/// registers.
template <walk_for What, class Job, class Outputs, int D>
__global__ void __launch_bounds__(walk_plan<What, Job, D>::threads, walk_plan<What, Job, D>::blocks_of_processor)
    line_walk_kernel(const __grid_constant__ Job job, const __grid_constant__ Outputs out,
                     const __grid_constant__ gradient_memory kept, const __grid_constant__ line_stretches stretches,
                     const __grid_constant__ operand_maps<walk_plan<What, Job, D>::tiles> maps) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using plan = walk_plan<What, Job, D>;
  extern __shared__ unsigned char shared_memory[];
  auto& shared = walk_memory<plan, D>::in(shared_memory);
  const walked_line line = walked_line_of_block<What == walk_for::outputs>(job, stretches);
  if (!line.exists) return;
  if constexpr (plan::goes_back) {
    if (kept.redo[line.at.item] != 0) return;
  }
  if constexpr (!plan::weighs && plan::reads) {
    if (line.tiles() == 0) return;
  }
  if (threadIdx.x == 0) shared.line = line;
  walk_loaders<What, Job, Outputs, D>::look({job, out, kept, maps, line, shared});
  if constexpr (plan::weighs || plan::prepares)
    walk_loaders<What, Job, Outputs, D>::begin({job, out, kept, maps, line, shared});
  shared.begin();
  const walk_part<What, Job, Outputs, D> part{job, out, kept, maps, shared.line, shared};
  // The compiler has to see that whole warps go one way.
  const int warp = __shfl_sync(~0U, static_cast<int>(threadIdx.x) / 32, 0);
  if (warp >= plan::readers / 32) {
    if constexpr (plan::shares_registers) change_registers<plan::registers, plan::feeder_registers>();
    if constexpr (plan::of_heads) {
      walk_spacers<What, Job, Outputs, D>(part).run();
    } else if constexpr (plan::weighs) {
      walk_weighers<What, Job, Outputs, D>(part).run();
    } else if constexpr (plan::prepares) {
      walk_preparers<What, Job, Outputs, D>(part).run();
    } else {
      walk_loaders<What, Job, Outputs, D>(part).run();
    }
  } else if constexpr (plan::multiplies) {
    if constexpr (plan::shares_registers) change_registers<plan::registers, plan::reader_registers>();
    if constexpr (plan::weighs) {
      walk_readers<What, Job, Outputs, D>(part).run();
    } else {
      walk_readings<What, Job, Outputs, D>(part).run();
    }
  }
#else
  __trap();  // takes_hopper said that this cannot be
#endif
}

/// Heads that walks encode; those of an ordered traversal take others in parts.
template <class Job>
bool fits_encoding_walks(const execution<cuda>& on, const Job& job) {
  return on.takes_hopper() && fits_causal_tiles(job) && !comes_in_parts(job);
}
template <class Job>
bool fits_walks_in_parts(const execution<cuda>& on, const Job& job) {
  return Job::keys_are_weights && on.takes_hopper() && fits_causal_tiles(job) && comes_in_parts(job);
}

/// Packs the angles of a job, [.., 64] words: the cosine and the sine of a channel or, of heads that come in parts, the cosines of
/// two neighbours, and after those of all channels their sines. Channels that have no angle stay as they are, times one.
template <class Job>
struct pack_angles {
  Job job;
  std::uint32_t* to;
  bool neighbours;

  __device__ void operator()(std::int64_t n) const {
    constexpr std::int64_t half = Job::packed_words / 2;
    const std::int64_t row = n / Job::packed_words, i = n % Job::packed_words;
    if (!neighbours) {
      to[n] = pair(cosine(row, i), sine(row, i));
    } else if (i < half) {
      to[n] = pair(cosine(row, 2 * i), cosine(row, 2 * i + 1));
    } else {
      to[n] = pair(sine(row, 2 * (i - half)), sine(row, 2 * (i - half) + 1));
    }
  }

 private:
  __device__ float cosine(std::int64_t row, std::int64_t i) const { return angle(job.from.cosine, row, i, 1.0F); }
  __device__ float sine(std::int64_t row, std::int64_t i) const { return angle(job.from.sine, row, i, 0.0F); }
  template <class Table>
  __device__ static float angle(const Table& table, std::int64_t row, std::int64_t i, float otherwise) {
    const std::int64_t tokens = table.extent(1);
    return i < table.extent(2) ? table(row / tokens, row % tokens, i) : otherwise;
  }
  __device__ static std::uint32_t pair(float first, float second) {
    return float16{first}.bits() | static_cast<std::uint32_t>(float16{second}.bits()) << 16;
  }
};
template <class Job>
void take_packed_angles(execution<cuda>& on, execution<cuda>::scope& scratch, const char* operation, Job& job) {
  const std::int64_t count = job.from.cosine.extent(0) * job.from.cosine.extent(1) * Job::packed_words;
  auto* const packed = scratch.take<std::uint32_t>(count);
  for_each(on, operation, count, pack_angles<Job>{job, packed, comes_in_parts(job)});
  job.packed_angles = packed;
}

/// How the copy engine finds the operands of a walk. Tokens that are masked it cannot leave out.
template <walk_for What, class Job, class Outputs, int D>
auto maps_of(const Job& job, const Outputs& outputs) {
  using plan = walk_plan<What, Job, D>;
  operand_maps<plan::tiles> maps{};
  maps.given = plan::in_bulk && !job.from.mask;
  walk_part<What, Job, Outputs, D>::each_operand(job, outputs, [&](int number, const auto& sequence) {
    constexpr auto part = walk_part<What, Job, Outputs, D>::channels_of;
    maps.given = maps.given && map_operand(sequence, part(number), maps.of[number]);
  });
  return maps;
}

/// Puts a walk on the stream, in the smallest of its tiles: heads of up to 128 keys and values, or a part of one.
template <walk_for What, class Job, class Outputs>
void walk_lines(execution<cuda>& on, const char* operation, const Job& job, const Outputs& outputs,
                const line_stretches& stretches, const gradient_memory& kept = {}) {
  const auto run = [&]<int D>() {
    using plan = walk_plan<What, Job, D>;
    constexpr std::size_t bytes = sizeof(walk_memory<plan, D>) + 1024, most = 228 * 1024;
    static_assert((bytes + 1024) * plan::blocks_of_processor <= most,
                  "lightnet: a tile is too large for shared memory");
    launch(on, operation, {job.from.items() * stretches.blocks_of_line, plan::threads, bytes},
           line_walk_kernel<What, Job, Outputs, D>, job, outputs, kept, stretches,
           maps_of<What, Job, Outputs, D>(job, outputs));
  };
  const bool small = Job::position::encodes ? !comes_in_parts(job) : job.from.keys <= 64 && job.from.values <= 64;
  if (small) {
    run.template operator()<64>();
  } else if constexpr (!Job::position::encodes || (Job::keys_are_weights && walk_plan<What, Job, 64>::weighs)) {
    run.template operator()<128>();
  }
}

/// Puts on the stream what gives the totals of stretches.
template <class Job>
void add_up_stretches(execution<cuda>& on, const char* operation, const Job& job,
                      const stretch_totals<typename Job::A>& totals) {
  if (on.takes_hopper()) {
    // Weights that are the keys alone need no others: their frame seldom goes on.
    constexpr bool alone = Job::keys_are_weights && !Job::position::encodes;
    return walk_lines < alone ? walk_for::sums : walk_for::totals > (on, operation, job, totals, totals.stretches);
  }
  if constexpr (!Job::position::encodes) run_causal_tiles<false>(on, operation, job, totals, totals.stretches);
}

/// Lines of more tokens than these are cut, into stretches of so many.
inline constexpr std::int64_t uncut_tokens = 8192, stretch_tokens = 4096;

/// The outputs and the final state of a causal pass over the lines of `least` tokens or more. Long lines are cut: their totals,
/// what has come before each stretch, and all stretches at once, for half as much traffic again.
template <class Job, class Outputs>
void run_lines(execution<cuda>& on, execution<cuda>::scope& scratch, const char* operation, Job job,
               const Outputs& outputs, std::int64_t least = 0) {
  auto stretches = line_stretches::of(job, stretch_tokens, uncut_tokens);
  stretches.least = least;
  if (stretches.blocks_of_line > 1) {
    take_line_memory(on, scratch, operation, job);
    auto but_last = stretches;
    but_last.left_out = 1;
    const auto totals = stretch_totals<typename Job::A>::of(scratch, job, but_last);
    const auto between = states_between<Job>::of(scratch, job, stretches);
    add_up_stretches(on, operation, job, totals);
    each_row_of_states(on, operation, job, add_stretches{job, totals, between});
    job.between = between.states;
  }
  if (on.takes_hopper()) return walk_lines<walk_for::outputs>(on, operation, job, outputs, stretches);
  if constexpr (!Job::position::encodes) run_causal_tiles<true>(on, operation, job, outputs, stretches);
}

/// The outputs and the final state of a causal pass over heads whose keys are taken in parts. Lines are not cut.
template <class Job, class Outputs>
void run_lines_in_parts(execution<cuda>& on, execution<cuda>::scope& scratch, const char* operation, const Job& job,
                        const Outputs& outputs) {
  each_part_of_keys(job, [&](const part_of_keys& keys) {
    Job part = keys.of_job(job);
    take_packed_angles(on, scratch, operation, part);
    walk_lines<walk_for::outputs>(on, operation, part, keys.of_outputs(outputs), line_stretches::none(part));
  });
}

/// The outputs of both ways, those of the second added, of lines that are not cut.
template <class Job, class Outputs>
void run_both_ways(execution<cuda>& on, const char* operation, const Job& job, const Outputs& outputs) {
  auto lines = line_stretches::none(job);
  lines.most = uncut_tokens;
  walk_lines<walk_for::both_ways>(on, operation, job, outputs, lines);
}

/// Gradients that walks alone take, not pull_tiles: of decays of heads or of tokens, and of keys that are made of decays.
template <class Recurrence, class Position, class T>
inline constexpr bool takes_walks_alone = takes_causal_tiles<Recurrence, Position, T>&& Recurrence::normaliser ==
                                              normaliser_of::weight &&
                                          (!Recurrence::per_channel || Recurrence::kappa == kappa_of::complement);

/// The gradients of a causal pass, in three walks, or four. Gives the lines that are left over.
template <class Job, class Gradients>
const unsigned* walk_gradients(execution<cuda>& on, execution<cuda>::scope& scratch, const char* operation,
                               const Job& job, const Gradients& gradients) {
  const auto& from = job.from;
  constexpr bool of_heads = walk_plan<walk_for::queries, Job, 64>::of_heads;
  const std::int64_t channels = of_heads ? 1 : from.keys <= 64 && from.values <= 64 ? 64 : 128;
  gradient_memory kept = gradient_memory::of<!of_heads>(scratch, job, channels);
  kept.known = gradients.accumulate;  // else lines that turn out to be left over are written anew
  leave_nothing_over(on, operation, job, kept);
  const auto whole = line_stretches::none(job);
  if (kept.known) walk_lines<walk_for::factors>(on, operation, job, gradients, whole, kept);
  walk_lines<walk_for::queries>(on, operation, job, gradients, whole, kept);
  walk_lines<walk_for::keys>(on, operation, job, gradients, whole, kept);
  if (gradients.v) walk_lines<walk_for::values>(on, operation, job, gradients, whole, kept);
  return kept.redo;
}

/// The same of heads whose keys are taken in parts: a line that one of these leaves over is left over as a whole.
template <class Job, class Gradients>
const unsigned* walk_gradients_in_parts(execution<cuda>& on, execution<cuda>::scope& scratch, const char* operation,
                                        const Job& job, const Gradients& gradients) {
  struct walked_part {
    Job job;
    Gradients gradients;
    gradient_memory kept;
  };
  std::array<walked_part, most_parts_of_keys> parts;
  const auto whole = line_stretches::none(job);
  std::size_t count = 0;
  each_part_of_keys(job, [&](const part_of_keys& keys) {
    walked_part& part = parts[count++];
    part = {keys.of_job(job), keys.of_gradients(gradients), {}};
    take_packed_angles(on, scratch, operation, part.job);
    part.kept = gradient_memory::of<true>(scratch, part.job, keys_of_part);
    part.kept.known = gradients.accumulate;
    part.kept.redo = parts[0].kept.redo;
    if (keys.first == 0) leave_nothing_over(on, operation, job, part.kept);
    // Of all parts before anything is added to.
    if (part.kept.known) walk_lines<walk_for::factors>(on, operation, part.job, part.gradients, whole, part.kept);
  });
  for (std::size_t n = 0; n < count; ++n) {
    auto& [part, to, kept] = parts[n];
    walk_lines<walk_for::queries>(on, operation, part, to, whole, kept);
    walk_lines<walk_for::keys>(on, operation, part, to, whole, kept);
    to.accumulate = gradients.accumulate || n > 0;
    if (to.v) walk_lines<walk_for::values>(on, operation, part, to, whole, kept);
  }
  return parts[0].kept.redo;
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
