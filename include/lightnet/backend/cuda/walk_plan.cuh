// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/channel_weights.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// What a walk along the lines, 64 tokens at a time, is for: the outputs of the forward call; what the tokens of a stretch
/// add up to, and the outputs of queries that all read such a sum; the factors before every tile; or the gradients of the
/// queries, of the keys and of the values.
enum class walk_for { outputs, totals, readings, factors, queries, keys, values };

/// How a walk uses the matrix units (see walk_readers):
///   y^T = X read^T + column^T tri(read in^T)^T,   X <- by X + column^T in,
/// which tiles of operands it loads, and what it is given. D: the channels of a tile, of the keys and of the values.
template <walk_for What, class Job, int D>
struct walk_plan {
  static constexpr bool forward_call = What == walk_for::outputs || What == walk_for::totals;
  static constexpr bool weighs = What != walk_for::readings;
  static constexpr bool goes_back = What == walk_for::queries || What == walk_for::keys || What == walk_for::values;
  static constexpr bool backwards = What == walk_for::keys || What == walk_for::values;
  static constexpr bool multiplies = What != walk_for::factors;
  static constexpr bool reads = multiplies && What != walk_for::totals;  // there is a y
  static constexpr bool keyed = Job::recurrence::kappa == kappa_of::key;

  static constexpr bool loads_k = weighs && (keyed || Job::tied);
  static constexpr bool loads_q = reads;
  static constexpr bool loads_v = weighs && What != walk_for::values;
  static constexpr bool loads_incoming = reads && weighs && What != walk_for::outputs;
  static constexpr bool has_extra = What == walk_for::queries || (What == walk_for::keys && keyed);
  /// X is [channels of the key, of the value], not its transpose: what scales a channel scales a row.
  static constexpr bool scales_rows = What == walk_for::queries || What == walk_for::keys;
  /// X is read in two parts of bfloat16, as it is not to be rounded: differences are made of what comes out.
  static constexpr bool splits_state = What == walk_for::queries || What == walk_for::keys;
  static constexpr factors_wanted factors{
      .keys = multiplies && !(What == walk_for::keys && keyed),
      .queries = reads,
      .inverses = What == walk_for::queries,
      .weights = What == walk_for::keys && keyed,
  };

  static constexpr int rows = 64, groups = D / 64;
  static constexpr int readers = multiplies ? groups * 128 : 0, feeders = weighs ? 2 * D : D;
  static constexpr int threads = readers + feeders;
  static constexpr int tiles = weighs + loads_q + loads_v + loads_incoming;
  static constexpr int stages = has_extra ? 2 : 3;  // tiles that are there or on their way
  static constexpr int blocks_of_processor = (D == 64 && tiles <= 3) || !weighs || !multiplies ? 2 : 1;
  // Registers of a thread: as many at first for all, then readers take some of the feeders', by groups of four warps.
  static constexpr int registers = 65536 / (blocks_of_processor * threads) / 8 * 8;
  static constexpr bool shares_registers = multiplies && blocks_of_processor * threads >= 512;
  static constexpr int reader_registers = !weighs ? 96 : D == 64 ? 144 : 168;
  static constexpr int feeder_registers = !weighs ? 48 : D == 64 ? 112 : 88;
  static_assert(!shares_registers || readers * reader_registers + feeders * feeder_registers <= threads * registers);
  static constexpr int extra_stride = D + 4;  // so that lanes of four tokens meet in no bank
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
