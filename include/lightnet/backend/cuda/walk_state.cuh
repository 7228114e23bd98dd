// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/walk_encoder.cuh>
#include <lightnet/backend/cuda/walk_rows.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// X in the registers of the warps that multiply, four of them for 64 of its rows. A thread has the rows `row()` and
/// `row()` + 8, and of each panel of 64 columns n / 4 * 8 + lane % 4 * 2 + n % 2.
template <walk_for What, class Job, class Outputs, int D>
class walk_state : protected walk_encoder<What, Job, Outputs, D> {
 protected:
  using part = walk_part<What, Job, Outputs, D>;
  using typename part::plan, typename part::tile;
  static constexpr int state_panels = plan::columns_of_x / 64;

  __device__ explicit walk_state(const part& given)
      : walk_encoder<What, Job, Outputs, D>{given},
        group_{plan::groups == 1 ? 0 : __shfl_sync(~0U, static_cast<int>(threadIdx.x) / 128, 0)},
        thread_{static_cast<int>(threadIdx.x) % 128},
        rows_{part::line_, part::shared_} {}

  /// A condition that all lanes of a warp know alike, as the compiler has to see for what lies around products.
  __device__ static bool uniform(bool yes) { return __any_sync(~0U, yes) != 0; }

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
    for (int panel = 0; panel < state_panels; ++panel) {
#pragma unroll
      for (int n = 0; n < 32; ++n) body(state_[panel][n], panel, n);
    }
  }
  /// The row of a state that is at a row, or column, of X; negative where it has none.
  __device__ std::int64_t row_of_state(int place) const {
    constexpr int columns = plan::doubles ? D / 2 : D;  // for the cosines
    const auto& from = part::job_.from;
    return place % columns < from.keys ? place / columns * (from.stored_keys / 2) + place % columns : -1;
  }
  /// Calls body(x, i, j) for every element of X in this thread that a state has: its row i, channel j of the value.
  template <class Body>
  __device__ void each_of_state(const Body& body) {
    const std::int64_t values = part::job_.from.values;
    const int first_row = row(), lane = this->lane();
#pragma unroll
    for (int n = 0; n < 32; ++n) {
#pragma unroll
      for (int panel = 0; panel < state_panels; ++panel) {  // together: halves of an encoding have the same channels
        const int row = first_row + n / 2 % 2 * 8, col = panel * 64 + n / 4 * 8 + lane % 4 * 2 + n % 2;
        const std::int64_t i = row_of_state(plan::scales_rows ? row : col);
        const int j = plan::scales_rows ? col : row;
        if (i >= 0 && j < values) body(state_[panel][n], i, j);
      }
    }
  }

  /// Writes X as what a stretch adds up to.
  __device__ void store_sum() {
    const std::int64_t rows = part::job_.from.stored_keys, values = part::job_.from.values;
    each_of_state(
        [&](float& x, std::int64_t i, int j) { part::out_.sum[(part::line_.place * rows + i) * values + j] = x; });
  }

  __device__ void keep_state() {
#pragma unroll
    for (int panel = 0; panel < state_panels; ++panel) keep_order(state_[panel]);
  }

  /// Multiplies every column of X by a number of its own.
  __device__ void scale_columns(const float* by) {
    by += lane() % 4 * 2;
#pragma unroll
    for (int panel = 0; panel < state_panels; ++panel) {
#pragma unroll
      for (int n = 0; n < 32; n += 4) {
        const float2 pair = *reinterpret_cast<const float2*>(by + panel * 64 + n * 2);
        state_[panel][n] *= pair.x;
        state_[panel][n + 1] *= pair.y;
        state_[panel][n + 2] *= pair.x;
        state_[panel][n + 3] *= pair.y;
      }
    }
  }

  /// X, rounded, as products read it.
  using packed_state = std::uint32_t[plan::columns_of_x / 16][4];
  __device__ __forceinline__ void pack_state(packed_state& x) {
#pragma unroll
    for (int i = 0; i < plan::columns_of_x / 16; ++i) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        x[i][e] = pack_bfloat16(state_[i / 4][i % 4 * 8 + e * 2], state_[i / 4][i % 4 * 8 + e * 2 + 1]);
      }
    }
  }

  /// What is left of X beside those, likewise.
  __device__ __forceinline__ void pack_rest(packed_state& x) {
#pragma unroll
    for (int i = 0; i < plan::columns_of_x / 16; ++i) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float* const pair = state_[i / 4] + i % 4 * 8 + e * 2;
        x[i][e] = pack_bfloat16(pair[0] - lower_bfloat16(x[i][e]), pair[1] - upper_bfloat16(x[i][e]));
      }
    }
  }

  /// y^T += X read^T, X packed; `read` is what goes with the cosines, if X has columns for sines, too.
  __device__ __forceinline__ static void multiply_state(const packed_state& x, const tile& read, const tile& sines,
                                                        float (&y)[32]) {
#pragma unroll
    for (int i = 0; i < plan::columns_of_x; i += 16) {
      multiply_add_group(y, x[i / 16], (i < D ? read : sines).along_columns(0, i % D));
    }
  }
  /// X += column^T in, the columns of a tile from `first` on; `in` likewise.
  __device__ __forceinline__ void add_to_state(const tile& column, int first, const tile& in, const tile& sines) {
#pragma unroll
    for (int s = 0; s < part::rows; s += 16) {
      if constexpr (state_panels == 2) {
        const int apart = plan::encodes ? static_cast<int>(sines.data - in.data) : tile::panel_bytes;
        multiply_add_group(state_, column.along_rows(s, first), in.along_rows_of_panels(s, apart));
      } else {
        multiply_add_group(state_[0], column.along_rows(s, first), in.along_rows(s, 0));
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
  // What follows from these is worked out anew, for lack of registers.
  const int group_, thread_;
  __device__ int lane() const { return anew(thread_) % 32; }
  /// The first row of X in this thread.
  __device__ int row() const {
    const int thread = anew(thread_);
    return group_ * 64 + thread / 32 * 16 + thread % 32 / 4;
  }
  const walk_rows<plan, D> rows_;
  float state_[state_panels][32];
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
