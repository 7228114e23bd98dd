// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/channel_word.cuh>
#include <lightnet/backend/cuda/even_rows.cuh>
#include <lightnet/backend/cuda/gradient_memory.cuh>
#include <lightnet/backend/cuda/operand_maps.cuh>
#include <lightnet/backend/cuda/walk_plan.cuh>

#include <climits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The shared memory of a block, and how its warps meet.
template <class Plan, int D>
struct walk_memory {
  using tile = swizzled_tile<Plan::rows>;
  static constexpr int operand_bytes = tile::bytes(D);

  /// What the weighers say about a tile; the preparers of a sum, how to rescale what it is added to.
  struct message {
    float rescale[Plan::of_heads ? 1 : Plan::stored];
    std::uint64_t on;
    int start, last, bad_token;
    unsigned rescales;  // whether any of `rescale` is not 1
    bool again, ends;   // more runs follow in this tile; no tile any more
  };

  // Tiles begin at multiples of 1024 bytes, and those that every walk has come first.
  static constexpr int encoded = Plan::encodes_k + Plan::encodes_q, rests = Plan::has_rests ? Plan::stages : 0;
  static constexpr bool has_scores = Plan::reads && Plan::weighs,
                        has_second_scores = has_scores && !Plan::outputs_for_scores && Plan::splits_scores;
  template <bool Used, int Bytes>
  struct alignas(Used ? 1024 : 16) bytes_if {
    unsigned char data[Used ? Bytes : 16];
  };

  alignas(1024) unsigned char operands[Plan::stages][Plan::tiles][operand_bytes];
  bytes_if<has_scores, tile::bytes(64)> scores;
  bytes_if<Plan::reads, operand_bytes> outputs;
  bytes_if<has_second_scores, tile::bytes(64)> second_scores;
  bytes_if<(encoded > 0), operand_bytes> sines[encoded > 0 ? encoded + rests : 1];  // and rests of factors, a stage
  float extras[Plan::has_extra ? Plan::extras : 1][Plan::has_extra ? Plan::extra_numbers : 1];
  alignas(16) std::uint32_t turns[Plan::joins_halves ? Plan::extra_numbers : 1];  // the packed angles of a tile
  float halves[Plan::joins_halves ? Plan::extra_numbers : 1];                     // of what comes out
  alignas(16) message messages[Plan::stages];
  /// How far the tokens of a tile are apart, where all channels decay alike: the binary logarithms of what has decayed since
  /// its beginning, as two floats each, and what weighs the state that a token reads, and what it adds to it.
  static constexpr int spaced_rows = Plan::spaced ? Plan::rows : 1;
  struct alignas(16) distances {
    float2 logs[spaced_rows];
    float2 logs_before[Plan::scores_both_ways ? spaced_rows : 1];  // without the token's own
    float reading[spaced_rows], adding[spaced_rows];
  };
  alignas(16) distances apart[Plan::spaced ? Plan::stages : 1];
  /// The terms of the tokens' gradients by their decays, each of one warp's channels, of a tile and of that before it.
  static constexpr int term_parts = Plan::sums_terms ? Plan::readers / 32 : 1, term_tiles = Plan::sums_terms ? 2 : 1;
  alignas(16) float terms[term_tiles][term_parts][spaced_rows];
  float of_parts[Plan::prepares ? Plan::feeders : 1][8];  // what those say that have the same channels
  static constexpr bool weighs_channels = Plan::weighs && !Plan::of_heads;
  float2 of_logits[weighs_channels ? Plan::feeders : 1], of_weights[weighs_channels ? Plan::feeders : 1];
  std::uint32_t first_logits[weighs_channels && !Plan::backwards ? Plan::feeders : 1];
  // Of a tile, and the threads that say so: its operands are there, and their factors, if any (feeders); nobody needs it
  // any more, its place can be loaded (readers).
  counting_barrier full[Plan::stages], emptied[Plan::stages];
  counting_barrier loaded[Plan::stages];  // of the tiles that the copy engine loads, by turns: its operands are there
  counting_barrier again;                 // a run of a tile is done, and more runs of it follow: readers
  // What all threads need now and then lies here, not in registers of theirs.
  walked_line line;
  even_rows<const bfloat16> even[Plan::tiles];  // of the operands
  even_rows<unsigned char> even_outputs[2];     // of whatever type these are
  int bad_column[D];                            // the position from which a column is NaN
  int bad_token, wide_run, run_end;
  unsigned bad_values;  // whether any column is bad
  // The tiles of this line that the copy engine loads: of turns [first, last), or on the way back from `first` on, the first
  // token of turn 0, and how far that of the next is.
  struct {
    int first, last, token, step, head, batch;
  } bulk;
  gradient_memory::of_line kept;

  /// By all threads, before anybody waits.
  __device__ void begin() {
    if (Plan::multiplies && threadIdx.x < Plan::stages) {
      full[threadIdx.x].begin(Plan::feeders);
      emptied[threadIdx.x].begin(Plan::readers);
      loaded[threadIdx.x].begin(Plan::operands);
      publish_to_products();
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

  // The number of an operand.
  static constexpr int k_at = 0, v_at = Plan::has_k, q_at = v_at + Plan::loads_v, incoming_at = q_at + Plan::loads_q,
                       logits_at = Plan::loads_logits ? incoming_at + Plan::loads_incoming : k_at;
  __device__ tile k(int stage) { return {operands[stage][k_at]}; }
  __device__ tile v(int stage) { return {operands[stage][v_at]}; }
  __device__ tile q(int stage) { return {operands[stage][q_at]}; }
  __device__ tile logits(int stage) { return {operands[stage][logits_at]}; }
  __device__ tile incoming(int stage) { return {operands[stage][incoming_at]}; }
  /// Where an encoding puts what goes with the sines, of one tile; what goes with the cosines takes the place of the factors.
  __device__ tile sines_of_k() { return {sines[0].data}; }
  __device__ tile sines_of_q() { return {sines[Plan::encodes_k && Plan::encodes_q ? 1 : 0].data}; }
  __device__ tile rest(int stage) { return {sines[Plan::has_rests ? encoded + stage : 0].data}; }
  __device__ float_rows extra(int stage) { return {extras[Plan::extras > 1 ? stage : 0], Plan::extra_stride}; }

  __device__ static int next(int stage) { return stage + 1 == Plan::stages ? 0 : stage + 1; }

  __device__ unsigned char* rest_of_scores() { return Plan::outputs_for_scores ? outputs.data : second_scores.data; }

  __device__ part_exchange between_parts() { return {of_logits, first_logits, of_weights, &wide_run, feeding()}; }
  __device__ static warps_barrier feeding() { return {1, Plan::feeders}; }
  __device__ static warps_barrier reading() { return {2, Plan::readers}; }
  __device__ static warps_barrier group(int index) { return {3 + index, 128}; }
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
  const operand_maps<plan::tiles>& maps_;
  const walked_line& line_;
  memory& shared_;

  /// The keys, or what they are made of.
  LIGHTNET_HOST_DEVICE static const auto& keys_of(const Job& job) {
    if constexpr (plan::logits_are_keys) {
      return job.from.logits;
    } else {
      return job.from.k;
    }
  }
  /// Calls body(number, sequence) for every operand that is loaded; body is the host's or the device's, as the caller is.
#pragma nv_exec_check_disable
  template <class Body>
  LIGHTNET_HOST_DEVICE static void each_operand(const Job& job, const Outputs& out, const Body& body) {
    if constexpr (plan::loads_k) body(memory::k_at, keys_of(job));
    if constexpr (plan::loads_v) body(memory::v_at, job.from.v);
    if constexpr (plan::loads_q) body(memory::q_at, job.from.q);
    if constexpr (plan::loads_incoming) body(memory::incoming_at, out.o);
    if constexpr (plan::loads_logits) body(memory::logits_at, job.from.logits);
  }
  template <class Body>
  __device__ __forceinline__ void each_operand(const Body& body) const {
    each_operand(job_, out_, body);
  }

  /// Says that the gradients of this line are to be made in another way (redo).
  __device__ void leave_to_others() const { kept_.redo[line_.at.item] = kept_.redo[job_.from.items()] = 1; }

  // --- Operands

  /// So many channels of an operand are in a tile, twice where the tile has more columns.
  LIGHTNET_HOST_DEVICE static constexpr int channels_of(int number) {
    const bool keys = plan::loads_k && number == memory::k_at, queries = plan::loads_q && number == memory::q_at;
    return plan::doubles && (keys || queries) ? D / 2 : D;
  }

  // --- The copy engine

  /// Looks which tiles it loads: those whose tokens are all there, one behind the other. By one thread.
  __device__ void look_for_bulk() const {
    const int tiles = line_.tiles(), whole = line_.length > line_.begin ? (line_.length - line_.begin) / rows : 0;
    const bool can = maps_.given && line_.at.line.step == 1;
    shared_.bulk = {.first = plan::backwards    ? tiles - whole
                             : !plan::both_ways ? 0
                             : can              ? turns() - whole
                                                : turns(),
                    .last = can ? plan::backwards ? tiles : whole : 0,
                    .token = static_cast<int>(line_.at.line.token(first_of(0))),
                    .step = plan::backwards ? -rows : rows,
                    .head = static_cast<int>(line_.at.head),
                    .batch = static_cast<int>(line_.at.line.batch)};
  }
  /// Whether it loads the tile of a turn.
  __device__ bool in_bulk(int turn) const {
    if constexpr (plan::both_ways) {
      return turn < shared_.bulk.last || (turn >= shared_.bulk.first && turn < turns());
    } else {
      return plan::in_bulk && turn >= shared_.bulk.first && turn < shared_.bulk.last;
    }
  }
  /// Has it load an operand of the tile of a turn, if it does that. By one thread.
  __device__ void copy_in_bulk(int number, int turn) const {
    if (!in_bulk(turn)) return;
    const auto& bulk = shared_.bulk;
    counting_barrier& loaded = shared_.loaded[bulk_number(turn) % plan::stages];
    loaded.pass_with_bytes(memory::operand_bytes);
    const int token = bulk.token + (plan::both_ways ? index_of(turn) : turn) * bulk.step;
    for (int column = 0; column < D; column += channels_of(number)) {
      unsigned char* const to = shared_.operands[turn % plan::stages][number] + column / 64 * tile::panel_bytes;
      maps_.copy(number, to, token, bulk.head, bulk.batch, loaded);
    }
  }
  /// Waits until the tile of such a turn is there.
  __device__ void wait_for_bulk(int turn) const {
    const int number = bulk_number(turn);
    shared_.loaded[number % plan::stages].wait(number / plan::stages);
  }
  /// How many tiles the engine has loaded before that of a turn.
  __device__ int bulk_number(int turn) const {
    const auto& bulk = shared_.bulk;
    if constexpr (plan::both_ways) return turn < bulk.last ? turn : turn - (bulk.first - bulk.last);
    return turn - bulk.first;
  }
  /// Calls body(number) in a thread for every operand that the engine loads, each of a warp of its own: by the warps that
  /// multiply.
  template <class Body>
  __device__ __forceinline__ void each_in_bulk(const Body& body) const {
    if constexpr (plan::in_bulk) {
      const int thread = anew(static_cast<int>(threadIdx.x)), number = thread / 32;
      if (thread % 32 == 0 && number < plan::tiles && (number > 0 || plan::loads_k || !plan::has_k)) body(number);
      __syncwarp();
    }
  }
  /// Has it load the first tiles, for which there are places.
  __device__ void begin_in_bulk() const {
    each_in_bulk([&](int number) {
      for (int turn = 0; turn < plan::stages; ++turn) copy_in_bulk(number, turn);
    });
  }
  /// Has it load the next tile in the place of that of a turn, once all that multiply have said that they need this no more.
  __device__ void go_on_in_bulk(int turn) const {
    each_in_bulk([&](int number) {
      if (!in_bulk(turn + plan::stages)) return;
      shared_.emptied[turn % plan::stages].wait(turn / plan::stages);
      copy_in_bulk(number, turn + plan::stages);
    });
  }

  /// How many turns there are, and whether one is on the way back.
  __device__ int turns() const { return plan::both_ways ? 2 * line_.tiles() : line_.tiles(); }
  __device__ bool goes_back(int turn) const { return plan::both_ways && turn >= line_.tiles(); }
  /// On the way back, all of whose tiles have been seen: the position from which what is bad from one on is bad.
  __device__ static int everywhere(int bad) { return bad == INT_MAX ? bad : 0; }
  /// The number of the tile of a turn, its first position, and how many tokens it has.
  __device__ int index_of(int turn) const { return plan::backwards || goes_back(turn) ? turns() - 1 - turn : turn; }
  __device__ int first_of(int turn) const { return line_.begin + index_of(turn) * rows; }
  __device__ int count_of(int first) const { return line_.length - first < rows ? line_.length - first : rows; }

  /// Which of the 64 tokens from `first` on are there, and not masked.
  __device__ std::uint64_t tokens_on(int first) const {
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

  // What a thread of those that feed reads of a tile: of each block of 16 rows and 64 channels that its warp has, eight
  // channels of a row and of three more, each four rows on. Where factors are made, a warp reads the rows and channels of its own.
  static constexpr int panels = D / 64, blocks = 4 * panels, warps = plan::feeders / 32;
  static_assert(!(plan::weighs || plan::prepares) || blocks == warps);  // as channel_weights has them
  __device__ static int row_of(int thread) { return thread / 32 / panels * 16 + thread % 32 / 8; }
  __device__ static int column_of(int thread) { return thread / 32 % panels * 64 + thread % 8 * 8; }
  /// Calls body(row, column) for the first row, and the first channel, of each block.
  template <class Body>
  __device__ __forceinline__ static void each_eight(int thread, const Body& body) {
#pragma unroll
    for (int n = 0; n < blocks; n += warps) body(row_of(thread) + n / panels * 16, column_of(thread));
  }

  /// Makes entries of v that are no numbers zero, and keeps where they were: by all threads that feed, or that multiply, each
  /// those that it has.
  __device__ void clean_values(const tile& v, int first, int thread) const {
    std::uint32_t largest = 0;
    each_eight(anew(thread), [&](int row, int column) {
#pragma unroll
      for (int r = row; r < row + 16; r += 4) {
        const uint4 x = *reinterpret_cast<const uint4*>(v.part(r, column));
        for (const std::uint32_t pair : {x.x, x.y, x.z, x.w}) largest = larger_magnitudes(largest, pair);
      }
    });
    if (!__any_sync(~0U, reach(largest, infinite_bfloat16))) return;
    clean_odd_values(shared_, v, first, thread);
  }

  /// The same where there are such entries: not inlined, for the registers that it would take from products.
  __device__ __noinline__ static void clean_odd_values(memory& shared, tile v, int first, int thread) {
    each_eight(thread, [&](int row, int column) {
#pragma unroll 1
      for (int r = row; r < row + 16; r += 4) {
#pragma unroll 1
        for (int c = column; c < column + 8; ++c) {
          std::uint16_t& x = *v.at(r, c);
          if ((x & 0x7F80U) != 0x7F80U) continue;
          x = 0;
          atomicMin(shared.bad_column + c, first + r);
          atomicOr(&shared.bad_values, 1U);
        }
      }
    });
  }

  /// Starts to read the rows of a tile, which lie anyhow, by the threads that feed. What is masked, and what lies beyond
  /// them and the channels, is zero. Columns: those after which channels begin once more.
  template <class Sequence>
  __device__ __noinline__ static void load_rows(const Sequence& sequence, const walked_line& line, tile to, int first,
                                                std::uint64_t on, int thread, int columns) {
    const std::int64_t channels = sequence.channels(), stride = sequence.channel_stride();
    each_eight(thread, [&](int first_row, int column) {
      const int c = column % columns;
#pragma unroll 1
      for (int r = first_row; r < first_row + 16; r += 4) {
        unsigned char* const place = to.part(r, column);
        if ((on >> r & 1U) == 0 || c >= channels) {
          *reinterpret_cast<uint4*>(place) = uint4{};
          continue;
        }
        const bfloat16* const row =
            sequence.token(line.at.line.batch, line.at.head, line.at.line.token(first + r)) + c * stride;
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
    });
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
