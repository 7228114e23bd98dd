// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/channel_weights.cuh>

#include <climits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// What a walk along the lines, 64 tokens at a time, is for: the outputs of the forward call; what the tokens of a stretch
/// add up to; the factors before every tile; or the gradients of the queries, of the keys and of the values.
enum class walk_for { outputs, totals, factors, queries, keys, values };

/// What the walks of one gradient hand each other. The tiles of a head lie line after line; each packed sequence may leave
/// one of them empty.
struct gradient_memory {
  std::int32_t* exponent = nullptr;  // [H, tiles, width]: m before every tile
  float* normaliser = nullptr;       // [H, tiles, width]: Z then, or 1 / Z of the decays before
  float* reads = nullptr;            // [H, tiles, d, 64]: R / Z in the frame of the tile, or R for a decay
  unsigned* redo = nullptr;          // [items]: lines that climb too far, or hold what is no number
  std::int64_t heads = 1, tiles = 0, tiles_of_line = 0;
  bool packed = false;

  /// Memory for the lines of a job, `channels` in a tile.
  template <class Job>
  static gradient_memory of(execution<cuda>::scope& scratch, const Job& job, std::int64_t channels) {
    const auto& lines = job.from.lines;
    gradient_memory made;
    made.heads = job.from.heads;
    made.packed = static_cast<bool>(lines.cumulative_lengths);
    made.tiles_of_line = (lines.longest() + 63) / 64;
    made.tiles = made.packed ? lines.longest() / 64 + lines.sequences() : lines.count() * made.tiles_of_line;
    const std::int64_t all = made.heads * made.tiles;
    made.exponent = scratch.take<std::int32_t>(all * job.width);
    made.normaliser = scratch.take<float>(all * job.width);
    made.reads = scratch.take<float>(all * channels * 64);
    made.redo = scratch.take<unsigned>(job.from.items());
    return made;
  }

  /// Where weight or channel w of `width` is, at a tile of a line.
  __device__ std::int64_t place(const line_of_head& at, std::int64_t index, std::int64_t width, std::int64_t w) const {
    const std::int64_t first = packed ? at.line.origin / 64 + at.line.sequence : at.item / heads * tiles_of_line;
    return ((at.head * tiles + first + index) * width) + w;
  }
};

/// How a walk uses the matrix units (see walk_readers):
///   y^T = X read^T + column^T tri(read in^T)^T,   X <- by X + column^T in,
/// which tiles of operands it loads, and what it is given. D: the channels of a tile, of the keys and of the values.
template <walk_for What, class Job, int D>
struct walk_plan {
  static constexpr bool forward_call = What == walk_for::outputs || What == walk_for::totals;
  static constexpr bool backwards = What == walk_for::keys || What == walk_for::values;
  static constexpr bool multiplies = What != walk_for::factors;
  static constexpr bool reads = multiplies && What != walk_for::totals;  // there is a y
  static constexpr bool keyed = Job::recurrence::kappa == kappa_of::key;

  static constexpr bool loads_q = reads;
  static constexpr bool loads_v = What != walk_for::values;
  static constexpr bool loads_incoming = reads && What != walk_for::outputs;
  static constexpr bool has_extra = What == walk_for::queries || (What == walk_for::keys && keyed);
  /// X is [channels of the key, of the value], not its transpose: what scales a channel scales a row.
  static constexpr bool scales_rows = What == walk_for::queries || What == walk_for::keys;
  static constexpr factors_wanted factors{
      .keys = multiplies && !(What == walk_for::keys && keyed),
      .queries = reads,
      .inverses = What == walk_for::queries,
      .weights = What == walk_for::keys && keyed,
  };

  static constexpr int rows = 64, groups = D / 64;
  static constexpr int readers = multiplies ? groups * 128 : 0, weighers = D, threads = readers + weighers;
  static constexpr int tiles = 1 + loads_q + loads_v + loads_incoming;
  static constexpr int stages = has_extra ? 2 : 3, ahead = stages - 1;  // tiles on their way
  static constexpr int blocks_of_processor = D == 64 && tiles <= 3 ? 2 : 1;
  static constexpr int extra_stride = D + 4;  // so that lanes of four tokens meet in no bank
};

/// The shared memory of a block, and how its warps meet.
template <class Plan, int D>
struct walk_memory {
  using tile = swizzled_tile<Plan::rows>;
  static constexpr int operand_bytes = tile::bytes(D);

  /// What the weighers say about a tile.
  struct message {
    float rescale[D];
    int bad_column[D];  // the position from which a column is NaN
    std::uint64_t on;
    int start, last, bad_token;
    bool again, bad, ends;  // more runs follow in this tile; something is bad; no tile any more
  };

  unsigned char operands[Plan::stages][Plan::tiles][operand_bytes];
  unsigned char scores[Plan::reads ? tile::bytes(64) : 1024], outputs[Plan::reads ? operand_bytes : 1024];
  float extras[Plan::has_extra ? Plan::stages : 1][Plan::has_extra ? Plan::rows * Plan::extra_stride : 1];
  alignas(16) message messages[Plan::stages];
  int bad_column[D];
  int bad_token, run_end;
  unsigned bad_values;  // whether any column is bad

  /// Memory that begins at a multiple of 1024 bytes, as tiles have to, in some that is 1024 bytes longer.
  __device__ static walk_memory& in(unsigned char* shared) {
    const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
    return *reinterpret_cast<walk_memory*>(shared + (1024 - address % 1024) % 1024);
  }

  __device__ tile k(int stage) { return {operands[stage][0]}; }
  __device__ tile v(int stage) { return {operands[stage][1]}; }
  __device__ tile q(int stage) { return {operands[stage][Plan::loads_q ? 1 + Plan::loads_v : 0]}; }
  __device__ tile incoming(int stage) { return {operands[stage][1 + Plan::loads_v + Plan::loads_q]}; }
  __device__ float_rows extra(int stage) { return {extras[Plan::has_extra ? stage : 0], Plan::extra_stride}; }

  __device__ static int next(int stage) { return stage + 1 == Plan::stages ? 0 : stage + 1; }
  __device__ static int before(int stage) { return stage == 0 ? Plan::stages - 1 : stage - 1; }

  __device__ static warps_barrier weighing() { return {1, Plan::weighers}; }
  __device__ static warps_barrier reading() { return {2, Plan::readers}; }
  __device__ static warps_barrier group(int index) { return {3 + index, 128}; }
  __device__ static warps_barrier full(int stage) { return {5 + stage, Plan::threads}; }
  __device__ static warps_barrier empty(int stage) { return {5 + Plan::stages + stage, Plan::threads}; }
};

/// The part of a line and head that a block walks.
struct walked_line {
  line_of_head at;
  std::int64_t begin, length;  // positions [begin, length)

  __device__ std::int64_t tiles() const { return length > begin ? (length - begin + 63) / 64 : 0; }
};

/// Rows of a sequence as 16 bytes at a time, where all of them lie so.
template <class T>
struct even_rows {
  T* first = nullptr;  // of position 0
  std::int64_t step = 0;

  __device__ explicit operator bool() const { return first != nullptr; }

  /// `wide` channels of the positions of a line.
  template <class Sequence>
  __device__ static even_rows of(const Sequence& sequence, const line_of_head& at, std::int64_t wide) {
    std::int64_t step = 0;
    if (!sequence || !sequence.evenly_spaced(step) || sequence.channel_stride() != 1 || sequence.channels() != wide) {
      return {};
    }
    step *= at.line.step;
    T* const first = sequence.token(at.line.batch, at.head, at.line.token(0));
    if (reinterpret_cast<std::uintptr_t>(first) % 16 != 0 || step % 8 != 0) return {};
    return {first, step};
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
