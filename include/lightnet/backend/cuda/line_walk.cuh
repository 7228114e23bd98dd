// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/causal_tiles.cuh>
#include <lightnet/backend/cuda/line_states.cuh>
#include <lightnet/backend/cuda/walk_loaders.cuh>
#include <lightnet/backend/cuda/walk_preparers.cuh>
#include <lightnet/backend/cuda/walk_readers.cuh>
#include <lightnet/backend/cuda/walk_readings.cuh>
#include <lightnet/backend/cuda/walk_spacers.cuh>
#include <lightnet/backend/cuda/walk_weighers.cuh>

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

/// Whether walks have one half of an encoding at a time.
template <class Job>
bool takes_halves(const Job& job) {
  return Job::position::encodes && (job.from.keys > 64 || job.from.values > 64);
}
/// Heads that walks encode; causal ones wide heads, too, whose weights are the keys.
template <class Job>
bool fits_encoding_walks(const execution<cuda>& on, const Job& job, bool causal) {
  return on.takes_hopper() && fits_causal_tiles(job) && (!takes_halves(job) || (causal && Job::keys_are_weights));
}

/// Packs the angles of a job: channels that it does not have stay as they are, times one.
template <class Job>
struct pack_angles {
  Job job;
  std::uint32_t* to;
  std::int64_t rows;  // of a head and token
  bool halves;

  __device__ void operator()(std::int64_t n) const {
    const std::int64_t row = n / Job::packed_words % rows, i = n % Job::packed_words;
    const auto pair = [&](float first, float second) {
      return float16{first}.bits() | static_cast<std::uint32_t>(float16{second}.bits()) << 16;
    };
    if (!halves) {
      to[n] = pair(angle(job.from.cosine, row, i, 1.0F), angle(job.from.sine, row, i, 0.0F));
    } else if (n < rows * Job::packed_words) {
      to[n] = pair(angle(job.from.cosine, row, 2 * i, 1.0F), angle(job.from.cosine, row, 2 * i + 1, 1.0F));
    } else {
      to[n] = pair(angle(job.from.sine, row, 2 * i, 0.0F), angle(job.from.sine, row, 2 * i + 1, 0.0F));
    }
  }

 private:
  template <class Table>
  __device__ static float angle(const Table& table, std::int64_t row, std::int64_t i, float otherwise) {
    const std::int64_t tokens = table.extent(1);
    return i < table.extent(2) ? table(row / tokens, row % tokens, i) : otherwise;
  }
};
template <class Job>
void take_packed_angles(execution<cuda>& on, execution<cuda>::scope& scratch, const char* operation, Job& job) {
  const bool halves = takes_halves(job);
  const std::int64_t rows = job.from.cosine.extent(0) * job.from.cosine.extent(1);
  const std::int64_t count = (halves ? 2 : 1) * rows * Job::packed_words;
  auto* const packed = scratch.take<std::uint32_t>(count);
  for_each(on, operation, count, pack_angles<Job>{job, packed, rows, halves});
  job.packed_angles = packed;
}

/// How the copy engine finds the operands of a walk. Tokens that are masked it cannot leave out.
template <walk_for What, class Job, class Outputs, int D>
auto maps_of(const Job& job, const Outputs& outputs) {
  using plan = walk_plan<What, Job, D>;
  operand_maps<plan::tiles> maps{};
  maps.given = plan::in_bulk && !job.from.mask;
  walk_part<What, Job, Outputs, D>::each_operand(job, outputs, [&](int number, const auto& sequence) {
    maps.given = maps.given && map_operand(sequence, D, maps.of[number]);
  });
  return maps;
}

/// Puts a walk on the stream, in the smallest of its tiles: heads of up to 128 keys and values. Of those that are encoded by
/// halves it is two walks, of which the second adds to what the first one has left.
template <walk_for What, class Job, class Outputs>
void walk_lines(execution<cuda>& on, const char* operation, const Job& job, const Outputs& outputs,
                const line_stretches& stretches, const gradient_memory& kept = {}) {
  const auto run = [&]<int D>(const Job& job) {
    using plan = walk_plan<What, Job, D>;
    constexpr std::size_t bytes = sizeof(walk_memory<plan, D>) + 1024, most = 228 * 1024;
    static_assert((bytes + 1024) * plan::blocks_of_processor <= most,
                  "lightnet: a tile is too large for shared memory");
    launch(on, operation, {job.from.items() * stretches.blocks_of_line, plan::threads, bytes},
           line_walk_kernel<What, Job, Outputs, D>, job, outputs, kept, stretches,
           maps_of<What, Job, Outputs, D>(job, outputs));
  };
  if (job.from.keys <= 64 && job.from.values <= 64) {
    run.template operator()<64>(job);
  } else if constexpr (!Job::position::encodes) {
    run.template operator()<128>(job);
  } else if constexpr (Job::keys_are_weights && walk_plan<What, Job, 64>::weighs) {
    Job of_half = job;
    for (; of_half.taken_half < (What == walk_for::factors ? 1 : 2); ++of_half.taken_half)
      run.template operator()<128>(of_half);
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

/// The outputs and the final state of a causal pass. Long lines are cut: their totals, what has come before each stretch, and
/// all stretches at once, for half as much traffic again.
template <class Job, class Outputs>
void run_lines(execution<cuda>& on, execution<cuda>::scope& scratch, const char* operation, Job job,
               const Outputs& outputs) {
  const auto stretches = line_stretches::of(job, 4096, 8192);
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
  if (on.takes_hopper()) {
    gradient_memory kept;
    if (takes_halves(job)) kept.take_halves(scratch, job);
    return walk_lines<walk_for::outputs>(on, operation, job, outputs, stretches, kept);
  }
  if constexpr (!Job::position::encodes) run_causal_tiles<true>(on, operation, job, outputs, stretches);
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
  if (takes_halves(job)) kept.take_halves(scratch, job);
  kept.known = gradients.accumulate;  // else lines that turn out to be left over are written anew
  check_cuda(operation, "cudaMemsetAsync",
             cudaMemsetAsync(kept.redo, 0, static_cast<std::size_t>(from.items() + 1) * sizeof(unsigned), on.stream()));
  const auto whole = line_stretches::none(job);
  if (kept.known) walk_lines<walk_for::factors>(on, operation, job, gradients, whole, kept);
  walk_lines<walk_for::queries>(on, operation, job, gradients, whole, kept);
  walk_lines<walk_for::keys>(on, operation, job, gradients, whole, kept);
  if (gradients.v) walk_lines<walk_for::values>(on, operation, job, gradients, whole, kept);
  return kept.redo;
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
