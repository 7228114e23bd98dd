// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/channel_word.cuh>
#include <lightnet/backend/cuda/gradient_memory.cuh>
#include <lightnet/backend/cuda/walk_plan.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

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
  unsigned char scores[Plan::reads && Plan::weighs ? tile::bytes(64) : 1024];
  unsigned char rest_of_scores[Plan::reads && Plan::weighs && !Plan::reads_rest ? tile::bytes(64) : 1024];
  unsigned char outputs[Plan::reads ? operand_bytes : 1024];
  float extras[Plan::has_extra ? Plan::stages : 1][Plan::has_extra ? Plan::rows * Plan::extra_stride : 1];
  alignas(16) message messages[Plan::stages];
  // Of a tile, and the threads that say so: its operands are there (loaders); its factors, too (weighers); nobody needs it
  // any more, its place can be loaded (readers, or weighers where there are none).
  counting_barrier loaded[Plan::stages], full[Plan::stages], emptied[Plan::stages];
  counting_barrier again;  // a run of a tile is done, and more runs of it follow: readers
  int bad_column[D];
  int bad_token, run_end;
  unsigned bad_values;  // whether any column is bad

  /// By all threads, before anybody waits.
  __device__ void begin() {
    if (threadIdx.x < Plan::stages) {
      loaded[threadIdx.x].begin(Plan::loaders);
      if constexpr (Plan::weighs) full[threadIdx.x].begin(Plan::weighers);
      emptied[threadIdx.x].begin(Plan::multiplies ? Plan::readers : Plan::weighers);
    }
    if constexpr (Plan::multiplies) {
      if (threadIdx.x == 0) again.begin(Plan::readers);
    }
    __syncthreads();
  }

  /// Memory that begins at a multiple of 1024 bytes, as tiles have to, in some that is 1024 bytes longer.
  __device__ static walk_memory& in(unsigned char* shared) {
    const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
    return *reinterpret_cast<walk_memory*>(shared + (1024 - address % 1024) % 1024);
  }

  __device__ tile k(int stage) { return {operands[stage][0]}; }
  __device__ tile v(int stage) { return {operands[stage][1]}; }
  __device__ tile q(int stage) { return {operands[stage][Plan::loads_q ? Plan::weighs + Plan::loads_v : 0]}; }
  __device__ tile incoming(int stage) { return {operands[stage][1 + Plan::loads_v + Plan::loads_q]}; }
  __device__ float_rows extra(int stage) { return {extras[Plan::has_extra ? stage : 0], Plan::extra_stride}; }

  __device__ static int next(int stage) { return stage + 1 == Plan::stages ? 0 : stage + 1; }

  __device__ static warps_barrier weighing() { return {1, Plan::weighers}; }
  __device__ static warps_barrier reading() { return {2, Plan::readers}; }
  __device__ static warps_barrier group(int index) { return {3 + index, 128}; }
};

/// The part of a line and head that a block walks.
struct walked_line {
  line_of_head at;
  std::int64_t begin, length;  // positions [begin, length)

  __device__ std::int64_t tiles() const { return length > begin ? (length - begin + 63) / 64 : 0; }
};

/// What the warps of all parts of a walk are given.
template <walk_for What, class Job, class Outputs, int D>
struct walk_part {
  using plan = walk_plan<What, Job, D>;
  using memory = walk_memory<plan, D>;
  using tile = typename memory::tile;
  using message = typename memory::message;
  static constexpr int rows = plan::rows;

  const Job& job_;
  const Outputs& out_;
  const gradient_memory& kept_;
  const walked_line& line_;
  memory& shared_;

  /// The first position of the tile of a turn, and how many tokens it has.
  __device__ std::int64_t first_of(std::int64_t turn) const {
    return line_.begin + (plan::backwards ? line_.tiles() - 1 - turn : turn) * rows;
  }
  __device__ int count_of(std::int64_t first) const {
    return static_cast<int>(line_.length - first < rows ? line_.length - first : rows);
  }

  /// Which of the 64 tokens from `first` on are there, and not masked.
  __device__ std::uint64_t tokens_on(std::int64_t first) const {
    const int count = count_of(first);
    if (!job_.from.mask) return ~std::uint64_t{0} >> (64 - count);
    std::uint64_t on = 0;
    for (int half = 0; half < 2; ++half) {
      const int r = half * 32 + static_cast<int>(threadIdx.x) % 32;
      const bool bit = r < count && job_.on(line_.at, line_.at.line.token(first + r));
      on |= static_cast<std::uint64_t>(__ballot_sync(~0U, bit)) << (32 * half);
    }
    return on;
  }

  /// Starts to read the rows of a tile, which lie anyhow, by D threads. What is masked, and what lies beyond them and the
  /// channels, is zero.
  template <class Sequence>
  __device__ void load_rows(const Sequence& sequence, const tile& to, std::int64_t first, std::uint64_t on,
                            int thread) const {
    constexpr int parts = D / 8;
    const int c = thread % parts * 8;
    const std::int64_t channels = sequence.channels(), stride = sequence.channel_stride();
#pragma unroll 1
    for (int r = thread / parts; r < rows; r += D / parts) {
      unsigned char* const place = to.part(r, c);
      if ((on >> r & 1U) == 0 || c >= channels) {
        *reinterpret_cast<uint4*>(place) = uint4{};
        continue;
      }
      const bfloat16* const row =
          sequence.token(line_.at.line.batch, line_.at.head, line_.at.line.token(first + r)) + c * stride;
      if (stride == 1 && c + 8 <= channels && reinterpret_cast<std::uintptr_t>(row) % 16 == 0) {
        copy_to_shared(place, row);
      } else {
        auto* const numbers = reinterpret_cast<std::uint16_t*>(place);
#pragma unroll 1
        for (int e = 0; e < 8; ++e) {
          numbers[e] = c + e < channels ? row[e * stride].bits() : static_cast<std::uint16_t>(0);
        }
      }
    }
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
