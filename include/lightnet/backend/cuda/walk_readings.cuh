// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/walk_state.cuh>

#include <climits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The warps that multiply where no tile waits for another. Of each they take
///   sums:            U^T += v^T khat;                 incoming_sums:  D^T += do^T q;
///   readings:        o^T = (U / Z)^T q^T;             query_readings: dq^T = (U / Z) do^T;
///   key_readings:    dk^T = khat (D v^T - r),         dv^T = D^T khat^T,
/// U, Z, D and r being those of the whole line, D and r divided by Z. Operands are rounded to bfloat16, sums are float.
template <walk_for What, class Job, class Outputs, int D>
class walk_readings : walk_state<What, Job, Outputs, D> {
 public:
  using part = walk_part<What, Job, Outputs, D>;
  using base = walk_state<What, Job, Outputs, D>;
  using typename part::plan, typename part::memory, typename part::message, typename part::tile;
  using typename base::four_pairs, typename base::packed_state;
  using part::rows, part::job_, part::out_, part::line_, part::shared_;
  using base::state_, base::group_, base::thread_, base::rows_, base::pairs_of;

  __device__ explicit walk_readings(const part& given) : base{given} {}

  __device__ void run() {
    if constexpr (plan::adds_up) {
      add_up();
    } else {
      read();
    }
  }

 private:
  // --- Sums

  __device__ void add_up() {
    base::each_register([](float& x, int, int) { x = 0; });
    each_tile([&](int turn, int stage) {
      if constexpr (What == walk_for::sums) {
        base::clean_values_and_meet(shared_.v(stage), part::first_of(turn));
        const message& from = shared_.messages[stage];
        if (base::uniform(from.rescales != 0)) base::scale_columns(from.rescale);
      }
      const tile in = What == walk_for::sums ? shared_.k(stage) : shared_.q(stage);
      const tile column = What == walk_for::sums ? shared_.v(stage) : shared_.incoming(stage);
      base::keep_state();
      begin_products();
      base::add_to_state(column, group_ * 64, in, What == walk_for::sums ? shared_.sines_of_k() : shared_.sines_of_q());
      commit_products();
      wait_for_products<0>();
      base::keep_state();
      shared_.emptied[stage].pass();
    });
    base::store_sum();
    if constexpr (What == walk_for::sums) base::tell_bad_columns();
  }

  // --- Readings

  __device__ void read() {
    packed_state x, transposed;
    float owed[2] = {};  // r of both rows
    if constexpr (What == walk_for::key_readings) {
      each_rows_read(out_.incoming, false, [&](const tile& staged, int first) {
        take_rows(staged, first, x);
        take_columns(staged, first, transposed);
      });
      for (int side = 0; side < 2; ++side) {
        const std::int64_t keys = job_.from.keys, i = (base::row() + side * 8) % D;
        if (i >= keys) continue;
        const float* const of_row = out_.owed + line_.at.item * job_.from.stored_keys + i;
        owed[side] = plan::encodes ? of_row[0] + of_row[keys] : of_row[0];
      }
    } else {
      each_rows_read(out_.sum, Job::sums, [&](const tile& staged, int first) {
        if constexpr (plan::scales_rows) {
          take_rows(staged, first, x);
        } else {
          take_columns(staged, first, x);
        }
      });
    }
    const bool any_bad = What == walk_for::readings && look_for_bad();
    each_tile([&](int turn, int stage) {
      const int first = part::first_of(turn);
      const std::uint64_t on = part::tokens_on(first);
      const run_of_rows run{first, 0, part::count_of(first) - 1, on, base::uniform(any_bad || on != ~std::uint64_t{0})};
      memory::reading().meet();  // rows of the last tile are stored
      float y[32];
      if constexpr (What == walk_for::key_readings) {
        multiply(x, shared_.v(stage), y);
        if (joined<true>(y)) {
#pragma unroll
          for (int t = 0; t < rows; t += 16) {
            if constexpr (!plan::encodes) khat_[t / 16] = pairs_of(shared_.k(stage), t);
#pragma unroll
            for (int n = 0; n < 8; ++n) {
              float& dk = y[t / 2 + n];
              dk = khat_[t / 16][n] * (dk - owed[n / 2 % 2]);
            }
          }
          rows_.store(out_.k, 0, job_.from.keys, run, y, false, out_.accumulate);
        }
        multiply(transposed, plan::joins_halves && group_ != 0 ? shared_.sines_of_k() : shared_.k(stage), y);
        shared_.emptied[stage].pass();
        memory::reading().meet();
        if (joined<false>(y)) rows_.store(out_.v, 1, job_.from.values, run, y, false, out_.accumulate);
      } else if constexpr (What == walk_for::query_readings) {
        multiply(x, shared_.incoming(stage), y);
        shared_.emptied[stage].pass();
        if (joined<true>(y)) rows_.store(out_.q, 0, job_.from.keys, run, y, false, out_.accumulate);
      } else {
        multiply(x, shared_.q(stage), y);
        shared_.emptied[stage].pass();
        rows_.store(out_.o, 0, job_.from.values, run, y, run.odd, out_.accumulate);
      }
    });
  }

  /// Whether this thread has y, of both halves where there are two.
  template <bool Turns>
  __device__ __forceinline__ bool joined(float (&y)[32]) const {
    if constexpr (plan::joins_halves) return base::template join_halves<Turns>(y);
    return true;
  }

  /// Loads what all queries, or all keys, read: U / Z, or what is divided already; 64 of its rows at a time, by way of the
  /// memory of the rows that go out. Calls take(tile, first) for those from `first` on.
  template <class Take>
  __device__ __forceinline__ void each_rows_read(const float* from, bool divides, const Take& take) const {
    const tile staged{shared_.outputs.data};
    const int keys = static_cast<int>(job_.from.keys), values = static_cast<int>(job_.from.values);
    const float* const state = from + line_.at.item * job_.from.stored_keys * values;
    const float* const inverse = job_.inverse + line_.at.item * job_.width;
#pragma unroll
    for (int first = 0; first < plan::stored; first += rows) {
#pragma unroll 4
      for (int n = static_cast<int>(threadIdx.x); n < rows * D / 2; n += plan::readers) {
        const int r = n / (D / 2), j = n % (D / 2) * 2, i = (first + r) % D;
        const float* const row = state + ((first + r) / D * keys + i) * values;
        const bool there = i < keys;
        const float by = there && divides ? inverse[job_.weight_of_row(i)] : 1.0F;
        const float x = there && j < values ? row[j] * by : 0.0F, y = there && j + 1 < values ? row[j + 1] * by : 0.0F;
        *reinterpret_cast<std::uint32_t*>(staged.at(r, j)) = pack_bfloat16(x, y);
      }
      memory::reading().meet();
      take(staged, first);
      memory::reading().meet();
    }
  }
  /// The rows of X, and its columns, in this warp: of two halves a group has the rows, or the columns, of one.
  __device__ __forceinline__ void take_rows(const tile& staged, int first, packed_state& x) const {
    if (first != group_ * rows) return;
    const int thread = anew(thread_), lane = thread % 32;
#pragma unroll
    for (int n = 0; n < plan::columns_of_x / 16; ++n)
      load_matrices(x[n], staged.part(thread / 32 * 16 + lane % 16, n * 16 + lane / 16 * 8));
  }
  __device__ __forceinline__ void take_columns(const tile& staged, int first, packed_state& x) const {
    if (plan::joins_halves && first != group_ * rows) return;
    const int thread = anew(thread_), lane = thread % 32, column = thread / 32 * 16 + lane / 8 % 2 * 8;
#pragma unroll
    for (int n = 0; n < rows / 16; ++n) {
      load_matrices_transposed(
          x[plan::joins_halves ? n : first / 16 + n],
          staged.part(n * 16 + lane / 16 * 8 + lane % 8, (plan::joins_halves ? 0 : group_ * rows) + column));
    }
  }

  /// What is bad anywhere in the line is bad everywhere.
  __device__ bool look_for_bad() const {
    const std::int64_t values = job_.from.values, item = line_.at.item;
    const auto whole = static_cast<unsigned long long>(line_.at.line.length);
    const bool all_bad = job_.bad_token[item] < whole;
    bool any_bad = all_bad;
    for (std::int64_t j = thread_; j < values; j += 128) {
      const bool is_bad = all_bad || job_.bad_column[item * values + j] < whole;
      if (group_ == 0) shared_.bad_column[j] = is_bad ? 0 : INT_MAX;
      any_bad = any_bad || is_bad;
    }
    return memory::reading().any(any_bad);
  }

  /// y^T = X read^T.
  __device__ __forceinline__ void multiply(const packed_state& x, const tile& read, float (&y)[32]) const {
#pragma unroll
    for (int n = 0; n < 32; ++n) y[n] = 0;
    keep_order(y);
    begin_products();
    base::multiply_state(x, read, shared_.sines_of_q(), y);
    commit_products();
    wait_for_products<0>();
    keep_order(y);
  }

  /// Calls body(turn, stage) for every tile, once it is there.
  template <class Body>
  __device__ void each_tile(const Body& body) {
    part::begin_in_bulk();
    const int tiles = line_.tiles();
    int stage = 0;
    unsigned round = 0;
    for (int turn = 0; turn < tiles; ++turn) {
      typename base::angles angles;
      if constexpr (plan::encodes) angles = base::angles_of(part::first_of(turn));
      shared_.full[stage].wait(round);
      if constexpr (plan::encodes) {
        if constexpr (What == walk_for::key_readings) {  // before they are encoded
#pragma unroll
          for (int t = 0; t < rows && group_ == 0; t += 16) khat_[t / 16] = pairs_of(shared_.k(stage), t);
        }
        if constexpr (What == walk_for::key_readings || plan::adds_up) memory::reading().meet();
        base::encode(angles, stage);
      }
      publish_to_products();
      if constexpr (plan::encodes && plan::adds_up) memory::reading().meet();
      body(turn, stage);
      part::go_on_in_bulk(turn);
      stage = memory::next(stage);
      round += stage == 0;
    }
  }

  four_pairs khat_[What == walk_for::key_readings ? rows / 16 : 1];
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
