// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/walk_rows.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// X in the registers of the warps that multiply, four of them for 64 of its rows. A thread has the rows `row_` and
/// `row_` + 8, and of each panel of 64 columns n / 4 * 8 + lane % 4 * 2 + n % 2.
template <walk_for What, class Job, class Outputs, int D>
class walk_state : protected walk_part<What, Job, Outputs, D> {
 protected:
  using part = walk_part<What, Job, Outputs, D>;
  using typename part::plan, typename part::tile;

  __device__ explicit walk_state(const part& given)
      : part{given},
        group_{__shfl_sync(~0U, static_cast<int>(threadIdx.x) / 128, 0)},
        thread_{static_cast<int>(threadIdx.x) % 128},
        lane_{thread_ % 32},
        row_{group_ * 64 + thread_ / 32 * 16 + lane_ / 4},
        rows_{part::line_, part::shared_} {}

  /// A condition that all lanes of a warp know alike, as the compiler has to see for what lies around products.
  __device__ static bool uniform(bool yes) { return __shfl_sync(~0U, static_cast<int>(yes), 0) != 0; }

  /// Makes the values of a tile that begins at a position fit for products, by all that multiply; a product reads them once
  /// these have met.
  __device__ void clean_values(const tile& v, int first) const { part::clean_values(v, first, group_ * 128 + thread_); }
  /// The same where nothing else has them meet.
  __device__ void clean_values_and_meet(const tile& v, int first) const {
    clean_values(v, first);
    publish_to_products();
    part::memory::reading().meet();
  }

  /// Tells other stretches which columns of v are bad. All that multiply have met since they looked.
  __device__ void tell_bad_columns() const {
    const int column = group_ * 128 + thread_;
    if (column < D) tell_bad_column(part::job_, part::line_.at, column, part::shared_.bad_column[column]);
  }

  /// Calls body(x, panel, n) for every element of X in this thread.
  template <class Body>
  __device__ void each_register(const Body& body) {
#pragma unroll
    for (int panel = 0; panel < D / 64; ++panel) {
#pragma unroll
      for (int n = 0; n < 32; ++n) body(state_[panel][n], panel, n);
    }
  }
  /// Calls body(x, i, j) for every element of X in this thread, channel i of the key and j of the value.
  template <class Body>
  __device__ void each_of_state(const Body& body) {
    each_register([&](float& x, int panel, int n) {
      const int row = row_ + n / 2 % 2 * 8, col = panel * 64 + n / 4 * 8 + lane_ % 4 * 2 + n % 2;
      body(x, plan::scales_rows ? row : col, plan::scales_rows ? col : row);
    });
  }

  __device__ void keep_state() {
#pragma unroll
    for (int panel = 0; panel < D / 64; ++panel) keep_order(state_[panel]);
  }

  /// Multiplies every column of X by a number of its own.
  __device__ void scale_columns(const float* by) {
#pragma unroll
    for (int panel = 0; panel < D / 64; ++panel) {
#pragma unroll
      for (int n = 0; n < 32; n += 4) {
        const float2 pair = *reinterpret_cast<const float2*>(by + panel * 64 + n * 2 + lane_ % 4 * 2);
        state_[panel][n] *= pair.x;
        state_[panel][n + 1] *= pair.y;
        state_[panel][n + 2] *= pair.x;
        state_[panel][n + 3] *= pair.y;
      }
    }
  }

  /// X, rounded, as products read it.
  __device__ __forceinline__ void pack_state(std::uint32_t (&x)[D / 16][4]) {
#pragma unroll
    for (int i = 0; i < D / 16; ++i) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        x[i][e] = pack_bfloat16(state_[i / 4][i % 4 * 8 + e * 2], state_[i / 4][i % 4 * 8 + e * 2 + 1]);
      }
    }
  }

  /// What is left of X beside those, likewise.
  __device__ __forceinline__ void pack_rest(std::uint32_t (&x)[D / 16][4]) {
#pragma unroll
    for (int i = 0; i < D / 16; ++i) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float* const pair = state_[i / 4] + i % 4 * 8 + e * 2;
        x[i][e] = pack_bfloat16(pair[0] - lower_bfloat16(x[i][e]), pair[1] - upper_bfloat16(x[i][e]));
      }
    }
  }

  /// Two tokens and two rows of a tile as y has them, from t on.
  struct four_pairs {
    std::uint32_t pairs[4];
    __device__ float operator[](int n) const {
      return n % 2 == 0 ? lower_bfloat16(pairs[n / 2]) : upper_bfloat16(pairs[n / 2]);
    }
  };
  __device__ four_pairs pairs_of(const tile& from, int t) const {
    four_pairs all;
    const int thread = anew(thread_), lane = thread % 32;
    load_matrices_transposed(
        all.pairs, from.part(t + lane / 16 * 8 + lane % 8, group_ * 64 + thread / 32 * 16 + lane / 8 % 2 * 8));
    return all;
  }
  const int group_, thread_, lane_, row_;  // the first row of X in this thread
  const walk_rows<plan, D> rows_;
  float state_[D / 64][32];
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
