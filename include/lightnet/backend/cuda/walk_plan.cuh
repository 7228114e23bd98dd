// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/channel_weights.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// What a walk along the lines, 64 tokens at a time, is for.
enum class walk_for {
  // The weights of a tile follow from those of the tiles before it:
  outputs,    // of the forward call
  both_ways,  // the same along a line and then back, added
  totals,     // what the tokens of a stretch add up to
  factors,    // m and Z before every tile, for the next three, where these add to what is there
  queries,    // the gradients of these; finds out m and Z where they are not known yet
  keys,
  values,
  // A weight needs no other, or there are none; tiles wait for another only where the frame of a sum goes on:
  sums,            // what a stretch adds up to, whose weights are the keys
  readings,        // the outputs of queries that all read one sum, U
  incoming_sums,   // D, the sum of what comes back to such queries
  query_readings,  // their gradients, which read U
  key_readings     // those of keys, which are the logits, and of values, which read D
};

/// How a walk uses the matrix units (see walk_readers),
///   y^T = X read^T + column^T tri(read in^T)^T,   X <- by X + column^T in,
/// which tiles of operands it loads, and what it is given. D: the channels of a tile, of the keys and of the values.
template <walk_for What, class Job, int D>
struct walk_plan {
  static constexpr bool both_ways = What == walk_for::both_ways;
  static constexpr bool gives_outputs = What == walk_for::outputs || both_ways;
  static constexpr bool forward_call = gives_outputs || What == walk_for::totals || What == walk_for::sums;
  static constexpr bool weighs = What <= walk_for::values;  // from tile to tile
  static constexpr bool prepares =
      What == walk_for::sums || What == walk_for::key_readings;  // khat, from the keys alone
  static constexpr bool goes_back =
      What == walk_for::queries || What == walk_for::keys || What == walk_for::values || What > walk_for::readings;
  static constexpr bool keeps = weighs && !forward_call;  // something for every tile, or has it from other walks
  static constexpr bool backwards = What == walk_for::keys || What == walk_for::values;
  static constexpr bool multiplies = What != walk_for::factors;
  static constexpr bool adds_up = What == walk_for::totals || What == walk_for::sums || What == walk_for::incoming_sums;
  static constexpr bool reads = multiplies && !adds_up;  // there is a y
  static constexpr bool keyed = Job::recurrence::kappa == kappa_of::key;
  /// Tiles of 128 columns are doubled: those of queries and keys are 64 channels for the cosines of an encoding, and the same
  /// ones for its sines. The warps that make the factors encode them, and those that multiply see 128 channels. Smaller tiles
  /// are encoded by the latter.
  static constexpr bool doubles = Job::position::encodes && D == 128, encodes = Job::position::encodes && !doubles;
  /// All channels of a token decay alike: tiles are multiplied as they are, and what comes out is weighed (walk_spacers).
  static constexpr bool of_heads = weighs && Job::decays && !Job::per_channel && !encodes;
  static constexpr bool spaced = of_heads && Job::recurrence::logits != logits_from::none;
  /// Their scores serve both ways: the way back reads the state alone.
  static constexpr bool scores_both_ways = both_ways && of_heads;
  /// Each token's queries or keys are multiplied with their gradients, for that of its decay.
  static constexpr bool sums_terms = spaced && (What == walk_for::queries || What == walk_for::keys);
  /// R, which the walk for the keys is given.
  static constexpr int terms_of_token = of_heads ? 1 : doubles ? D / 2 : D;
  /// The channels of khat, of qhat and of the state: with an encoding, those of the cosines and then those of the sines.
  static constexpr int stored = encodes ? 2 * D : D;
  static_assert(!encodes || !both_ways);
  static_assert(!doubles || (weighs && !both_ways));
  static constexpr bool encodes_k =
      encodes && (What == walk_for::outputs || What == walk_for::totals || What == walk_for::queries ||
                  What == walk_for::values || What == walk_for::key_readings);
  static constexpr bool encodes_q =
      encodes && (What == walk_for::outputs || What == walk_for::readings || What == walk_for::keys ||
                  What == walk_for::values || What == walk_for::incoming_sums);

  /// X is read in two parts of bfloat16, as it is not to be rounded: differences are made of what comes out.
  static constexpr bool splits_state = (What == walk_for::queries || What == walk_for::keys) && (!of_heads || spaced);
  /// And scores, too; of tokens whose channels decay alike, where nothing else is rounded within a tile, for such differences
  /// alone.
  static constexpr bool splits_scores = !of_heads || sums_terms;
  static constexpr bool loads_k = of_heads ? What != walk_for::factors && (What != walk_for::keys || sums_terms)
                                  : weighs ? keyed || Job::tied || (Job::complement && !encodes)
                                           : prepares;
  /// Decays of channels are loaded, too; of keys that are made of them in the place of these.
  static constexpr bool loads_logits = weighs && !encodes && Job::per_channel && keyed &&
                                       Job::recurrence::logits == logits_from::tokens && (D == 128 || !splits_state);
  static constexpr bool logits_are_keys = weighs && !encodes && Job::complement;
  static constexpr bool has_logits = loads_logits || logits_are_keys || Job::tied;  // in a tile
  static constexpr bool loads_v = weighs ? What != walk_for::values : prepares;
  static constexpr bool loads_q = of_heads ? reads && (What != walk_for::queries || sums_terms)
                                  : weighs ? reads
                                           : What == walk_for::readings || What == walk_for::incoming_sums;
  static constexpr bool loads_incoming =
      weighs ? reads && !gives_outputs : What == walk_for::incoming_sums || What == walk_for::query_readings;
  /// The copy engine loads tiles where it can: those whose factors are sums of what came before.
  static constexpr bool in_bulk = multiplies && (weighs || What == walk_for::sums);
  static constexpr bool cleans_values = loads_v && !goes_back;  // a gradient has no lines that are bad
  static constexpr bool has_weights = What == walk_for::keys && (keyed || Job::complement);
  /// Gradients of what is doubled come as two halves, each times its cosines or sines, which are added.
  static constexpr bool adds_halves = doubles && (What == walk_for::queries || What == walk_for::keys);
  static constexpr bool has_extra = !of_heads && (What == walk_for::queries || has_weights || adds_halves);
  /// What lies where rows of bfloat16 go is read, to be added to, while products are under way.
  static constexpr bool fetches_rows = both_ways || (doubles && (gives_outputs || What == walk_for::values));
  /// X is [channels of the key, of the value], not its transpose: what scales a channel scales a row.
  static constexpr bool scales_rows =
      What == walk_for::queries || What == walk_for::keys || What == walk_for::query_readings;
  /// Outputs are made ready where scores lie, so that two blocks have the memory they need, or one.
  static constexpr bool outputs_for_scores = encodes || What == walk_for::queries || What == walk_for::keys;
  static constexpr factors_wanted factors{
      .keys = multiplies && !(What == walk_for::keys && keyed),
      .queries = reads,
      .rests_of_keys = encodes && What == walk_for::queries,
      .rests_of_queries = encodes && What == walk_for::keys,
      .inverses = What == walk_for::queries,
      .weights = has_weights,
      .encoded_keys = doubles && What != walk_for::keys,
      .encoded_queries = doubles && What != walk_for::queries,
      .angles = adds_halves,
  };

  /// Factors that are encoded come with their rests, so that they are rounded once: differences are made of what comes out.
  static constexpr bool has_rests = factors.rests_of_keys || factors.rests_of_queries;

  static constexpr bool keys_are_rows = scales_rows || What == walk_for::key_readings;
  static constexpr int rows_of_x = keys_are_rows ? stored : D, columns_of_x = keys_are_rows ? D : stored;
  /// What comes out has a half that goes with the cosines and one that goes with the sines, each of a group of warps.
  static constexpr bool joins_halves = encodes && keys_are_rows;

  static constexpr int rows = 64, groups = rows_of_x / 64;
  static constexpr int readers = multiplies ? groups * 128 : 0, feeders = weighs || prepares ? 2 * D : D;
  static constexpr int threads = readers + feeders;
  static constexpr bool has_k = (weighs && !of_heads) || loads_k;
  static constexpr int tiles = has_k + loads_v + loads_q + loads_incoming + loads_logits;
  static constexpr int operands = loads_k + loads_v + loads_q + loads_incoming + loads_logits;  // that are loaded
  static constexpr bool halves_memory = D == 64 && splits_state && !encodes;
  static constexpr int stages =
      has_extra || halves_memory || (loads_logits && !adds_up) ? 2 : 3;  // tiles that are there or on their way
  /// Places for what goes with a tile: with one, the next tile's has to wait until nobody needs it any more.
  static constexpr int extras = halves_memory || loads_logits ? 1 : stages;
  static constexpr int blocks_of_processor =
      halves_memory || (D == 64 && tiles - loads_logits <= 3 && !(joins_halves && prepares)) ||
              What == walk_for::readings || What == walk_for::query_readings || !multiplies
          ? 2
          : 1;
  // Registers of a thread: as many at first for all, then readers take some of the feeders', by groups of four warps.
  static constexpr int registers = 65536 / (blocks_of_processor * threads) / 8 * 8;
  static constexpr bool shares_registers = multiplies && blocks_of_processor * threads >= 512 && feeders % 128 == 0;
  static constexpr int feeder_registers = of_heads    ? D == 64 ? 64 : 72
                                          : weighs    ? stored == 64                          ? 112
                                                        : Job::decays && keyed && has_weights ? 88
                                                                                              : 96
                                          : !prepares ? 48
                                          : D == 64   ? 136
                                                      : 96;
  static constexpr int reader_registers = weighs ? 256 - feeder_registers : !prepares ? 96 : D == 64 ? 112 : 152;
  static_assert(!shares_registers || readers * reader_registers + feeders * feeder_registers <= threads * registers);
  static_assert(!of_heads || shares_registers || !multiplies);
  static constexpr int extra_stride = D + 4;  // so that lanes of four tokens meet in no bank
  /// Numbers of a tile, one for each token and channel.
  static constexpr int extra_numbers = rows * extra_stride;
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
