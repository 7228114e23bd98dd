// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/even_rows.cuh>
#include <lightnet/backend/cuda/gradient_memory.cuh>
#include <lightnet/backend/cuda/walk_plan.cuh>

#include <climits>

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

/// What the warps of both parts of a walk are given.
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
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
