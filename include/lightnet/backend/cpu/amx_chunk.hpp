// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/amx.hpp>
#include <lightnet/backend/cpu/recurrence_carry.hpp>

#include <cstddef>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// What types that AMX does not know have in place of amx_chunk.
struct no_amx {
  struct packed_state {
    packed_state(const recurrence_sizes&, execution<cpu>::scope&) {}
  };

  no_amx(const recurrence_sizes&, execution<cpu>::scope&) {}
  static constexpr bool usable() { return false; }
  /// More would make the triangle of a chunk larger, fewer the passes over the state more.
  static constexpr std::int64_t usual_rows() { return 32; }
  static constexpr std::int64_t row_step() { return 1; }
  template <class... Argument>
  void absorb(const Argument&...) const {}
  template <class... Argument>
  void read(const Argument&...) const {}
  template <class... Argument>
  void pack(const Argument&...) const {}
};

/// The products of a chunk on AMX, for bfloat16 storage where the processor has it: operands are rounded to bfloat16, sums
/// are float. Queries that are in the frame of the state are packed once for the triangle and the state.
class amx_chunk {
 public:
  /// A state that many chunks read.
  class packed_state {
   public:
    packed_state(const recurrence_sizes& size, execution<cpu>::scope& scratch)
        : memory_{takes(size) ? scratch.take<std::byte>(packed_bytes(size.values, size.stored)) : nullptr} {}

   private:
    friend class amx_chunk;
    std::byte* memory_;
    packed_right operand_{};
  };

  amx_chunk(const recurrence_sizes& size, execution<cpu>::scope& scratch) : usable_{takes(size)} {
    if (!usable_) return;
    const std::int64_t longest = std::max(size.stored, size.values);
    values_ = scratch.take<std::byte>(packed_bytes(size.values, size.rows));
    left_ = scratch.take<std::byte>(packed_bytes(std::max(size.stored, size.rows), std::max(size.stored, size.rows)));
    right_ = scratch.take<std::byte>(packed_bytes(std::max(longest, size.rows), size.stored));
  }

  bool usable() const { return usable_; }
  /// A triangle is cheap here, and packing a state is not.
  static std::int64_t usual_rows() { return amx_available() ? 64 : no_amx::usual_rows(); }
  static std::int64_t row_step() { return amx_available() ? tile_rows : no_amx::row_step(); }

  /// total [d', e] = khat^T V.
  void absorb(const tile<float>& write_transposed, const tile<float>& v, const tile<float>& total, std::int64_t rows,
              std::int64_t stored_keys, std::int64_t columns) const {
    const amx_session session;
    multiply_packed(session, pack_left(write_transposed.data, write_transposed.stride, 1, stored_keys, rows, left_),
                    pack_right(v.data, v.stride, 1, rows, columns, values_), total.data, total.stride, false);
  }

  /// Packs U [d', e].
  static void pack(const tile<float>& state, std::int64_t stored_keys, std::int64_t columns, packed_state& to) {
    to.operand_ = pack_right(state.data, state.stride, 1, stored_keys, columns, to.memory_);
  }

  /// o = q U for the first `count` rows.
  void read(const tile<const float>& queries, const packed_state& state, const tile<float>& o, std::int64_t count,
            std::int64_t stored_keys) const {
    const amx_session session;
    multiply_packed(session, pack_left(queries.data, queries.stride, 1, count, stored_keys, left_), state.operand_,
                    o.data, o.stride, false);
  }

  /// o = tril(qhat khat^T) V + qhat U for rows [start, last] of `rows`; U may be missing, and may have a qhat of its own.
  void read(const tile<float>& read, const tile<float>& read_old, const tile<float>& write_transposed,
            const tile<float>& v, const tile<float>& state, const tile<float>& scores, const tile<float>& o,
            std::int64_t rows, std::int64_t stored_keys, std::int64_t columns, std::int64_t start,
            std::int64_t last) const {
    const amx_session session;
    const std::int64_t length = last + 1 - start;
    packed_left queries = pack_left(read.row(start), read.stride, 1, length, stored_keys, left_);
    multiply_packed(session, queries,
                    pack_right(write_transposed.data, write_transposed.stride, 1, stored_keys, rows, right_),
                    scores.row(start), scores.stride, false);
    for (std::int64_t t = start; t <= last; ++t) std::fill(scores.row(t) + t + 1, scores.row(t) + rows, 0.0F);
    if (state.data != nullptr) {
      if (read_old.data != read.data) {
        queries = pack_left(read_old.row(start), read_old.stride, 1, length, stored_keys, left_);
      }
      multiply_packed(session, queries, pack_right(state.data, state.stride, 1, stored_keys, columns, right_),
                      o.row(start), o.stride, false);
    }
    multiply_packed(session, pack_left(scores.row(start), scores.stride, 1, length, rows, left_),
                    pack_right(v.data, v.stride, 1, rows, columns, values_), o.row(start), o.stride,
                    state.data != nullptr);
  }

 private:
  static constexpr std::int64_t tile_rows = 16;

  static bool takes(const recurrence_sizes& size) { return amx_available() && size.in_steps; }

  bool usable_;
  std::byte *values_ = nullptr, *left_ = nullptr, *right_ = nullptr;
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
