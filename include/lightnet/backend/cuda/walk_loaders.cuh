// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/even_rows.cuh>
#include <lightnet/backend/cuda/walk_memory.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The warps of a walk that feed it: they read the operands from memory, where the copy engine does not, as many tiles ahead
/// as there are places for.
template <walk_for What, class Job, class Outputs, int D>
class walk_loaders : protected walk_part<What, Job, Outputs, D> {
 public:
  using part = walk_part<What, Job, Outputs, D>;
  using typename part::plan, typename part::memory, typename part::tile;
  using part::rows, part::job_, part::out_, part::line_, part::shared_;

  __device__ explicit walk_loaders(const part& given)
      : part{given}, thread_{anew(static_cast<int>(threadIdx.x) - plan::readers)} {}

  /// Looks how the operands and outputs lie: by all threads of the block, before they meet.
  __device__ static void look(const part& given) {
    if (threadIdx.x == 0) {
      given.look_for_bulk();
      if constexpr (plan::keeps)
        given.shared_.kept = given.kept_.line(given.line_.at, given.job_.width, plan::terms_of_token);
    }
    static_assert((plan::tiles + 2) * 32 <= plan::threads || What == walk_for::factors);
    given.each_operand([&](int number, const auto& sequence) {
      if (threadIdx.x != number * 32) return;
      given.shared_.even[number] = even_rows<const bfloat16>::of(sequence, given.line_.at, part::channels_of(number));
    });
    const auto each_output = [&]<class Sequence>(int number, const Sequence& sequence) {
      if (threadIdx.x != (plan::tiles + number) * 32) return;
      using row_of = even_rows<std::remove_pointer_t<decltype(sequence.token(0, 0, 0))>>;
      const row_of even = row_of::of(sequence, given.line_.at, plan::adds_halves ? D / 2 : D);
      given.shared_.even_outputs[number] = {reinterpret_cast<unsigned char*>(even.first), even.step};
    };
    if constexpr (plan::gives_outputs || What == walk_for::readings) each_output(0, given.out_.o);
    if constexpr (What == walk_for::values) each_output(0, given.out_.v);
    if constexpr (What == walk_for::queries || What == walk_for::query_readings) each_output(0, given.out_.q);
    if constexpr (What == walk_for::keys || What == walk_for::key_readings) each_output(0, given.out_.k);
    if constexpr (What == walk_for::keys) each_output(1, given.out_.logits);
    if constexpr (What == walk_for::key_readings) each_output(1, given.out_.v);
  }

  /// What is bad before the first tile: by all threads of the block, before they meet.
  __device__ static void begin(const part& given) {
    const bad_before<Job> known{given.job_, given.line_.at, What == walk_for::outputs};
    const int thread = static_cast<int>(threadIdx.x), token = known.token(), column = known.column(thread);
    const bool any = known.any();
    if (thread < D) given.shared_.bad_column[thread] = column;
    if (thread != 0) return;
    given.shared_.bad_token = token;
    given.shared_.bad_values = any;
    given.shared_.wide_run = -1;
  }

  /// Loads every tile, where there is nothing else to do.
  __device__ void run() const {
    const int tiles = line_.tiles();
    int stage = 0;
    unsigned round = 0;
    for (int turn = 0; turn < tiles; ++turn) {
      if (round > 0) shared_.emptied[stage].wait(round - 1);
      if (load(turn, stage)) {
        shared_.full[stage].pass_after_copies();
      } else {  // the barrier would not wait for what was stored
        wait_for_copies();
        shared_.full[stage].pass();
      }
      stage = memory::next(stage);
      round += stage == 0;
    }
    wait_for_copies();
  }

 protected:
  /// Starts to read the tile of a turn; whether all of it is copied, none stored.
  __device__ __forceinline__ bool load(int turn, int stage) const {
    const int first = part::first_of(turn);
    const std::uint64_t on = part::tokens_on(first);
    bool copied = on == ~std::uint64_t{0};
    part::each_operand([&](int number, const auto&) { copied = copied && shared_.even[number]; });
    if (copied) {
      const int position = first + first_row(), column = this->column();
      part::each_operand([&](int number, const auto&) { copy_rows(number, stage, position, column); });
    } else {
      part::each_operand([&](int number, const auto& sequence) {
        part::load_rows(sequence, line_, {shared_.operands[stage][number]}, first, on, thread_,
                        part::channels_of(number));
      });
    }
    return copied;
  }

  /// Starts to read the tile of a turn, if there is one and the copy engine does not load it, once it has waited for the place.
  template <class Wait>
  __device__ __forceinline__ void load_ahead(int turn, const Wait& wait_for_place) const {
    if (!part::in_bulk(turn) && turn < part::turns()) {
      wait_for_place();
      load(turn, turn % plan::stages);
    }
    commit_copies();
  }
  /// Waits until the tile of a turn is there: of what threads copy, the part of this warp.
  __device__ __forceinline__ void wait_for_tile(int turn) const {
    if (part::in_bulk(turn)) {
      part::wait_for_bulk(turn);
    } else {
      wait_for_copies_but<plan::stages - 2>();
      __syncwarp();
    }
  }
  /// Waits until nobody needs the tile of a turn any more, if there is one.
  __device__ void wait_until_emptied(int turn) const {
    if (plan::multiplies && turn >= 0) shared_.emptied[turn % plan::stages].wait(turn / plan::stages);
  }

  /// Where in a tile this thread has eight channels of its first row; of the row `quarter` times four rows after that.
  __device__ int place() const {
    return anew(static_cast<int>(tile{nullptr}.part(first_row(), column()) - tile{nullptr}.data));
  }
  __device__ static unsigned char* eight_of(const tile& of, int quarter, int place) {
    return of.data + (quarter % 2 == 0 ? place : place ^ 64) + quarter * 4 * tile::row_bytes;
  }

  /// The first row, and the first of eight channels, that this thread reads of a tile.
  __device__ int first_row() const { return part::row_of(anew(thread_)); }
  __device__ int column() const { return part::column_of(anew(thread_)); }

  const int thread_;

 private:
  /// Starts to copy this thread's rows of an operand that lies evenly, the first of them at a position, for its columns of a
  /// tile.
  __device__ __forceinline__ void copy_rows(int number, int stage, int position, int column) const {
    const int channel = column % part::channels_of(number);
    const even_rows<const bfloat16> even = shared_.even[number];
    const tile to{shared_.operands[stage][number]};
    const int place = this->place();
#pragma unroll
    for (int block = 0; block < part::blocks; block += part::warps) {
      const int below = block / part::panels * 16;
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        copy_to_shared(eight_of(to, n, place) + below * tile::row_bytes, even.row(position + below + 4 * n) + channel);
      }
    }
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
