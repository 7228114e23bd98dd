// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/causal_tiles.cuh>
#include <lightnet/backend/cuda/channel_weights.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Rows of a sequence as 16 bytes at a time, where all of them lie so.
template <class T>
struct even_rows {
  T* first = nullptr;  // of position 0
  std::int64_t step = 0;

  __device__ explicit operator bool() const { return first != nullptr; }

  /// `wide` channels of the positions of a line.
  template <class Sequence>
  __device__ static even_rows of(const Sequence& sequence, const line_of_head& at, std::int64_t wide) {
    std::int64_t step = 0;
    if (!sequence.evenly_spaced(step) || sequence.channel_stride() != 1 || sequence.channels() != wide) return {};
    step *= at.line.step;
    T* const first = sequence.token(at.line.batch, at.head, at.line.token(0));
    if (reinterpret_cast<std::uintptr_t>(first) % 16 != 0 || step % 8 != 0) return {};
    return {first, step};
  }
};

/// The forward call of a causal walk on Hopper's matrix units, a block a line and head. One part of its warps, a thread a
/// channel of the key, reads 64 tokens at a time, makes the weights and puts khat and qhat where q and k were; the others,
/// four warps for 64 channels of the value, hold U^T in registers and take
///   o^T = U^T qhat^T + V^T tril(qhat khat^T)^T,   U^T <- 2^(m - f) U^T + V^T khat,
/// each product with operands in bfloat16 and sums in float. Three tiles are on their way between them. Tokens whose frame
/// climbs too far are taken in several runs, a tile each. Least traffic a token: 2 d + 2 e numbers, and those of the logits.
///
/// Without Reads there are no outputs, and a block takes `stretch` tokens of a line: what they add up to.
template <bool Reads, class Job, class Outputs, int D, int E>
class causal_pipeline {
 public:
  static constexpr int rows = 64, stages = 3, weighers = D, groups = E / 64, readers = groups * 128;
  static constexpr int threads = readers + weighers, blocks_of_processor = D == 64 ? 2 : 1;
  using tile = swizzled_tile<rows>;

  /// What the weighers say about a tile.
  struct message {
    float rescale[D];
    int bad_column[E];  // the position from which a column is NaN
    std::uint64_t on;
    int start, last, bad_token;
    bool again, bad, ends;  // more runs follow in this tile; something is; no tile any more
  };
  struct memory {
    unsigned char tiles[stages][tile::bytes(D) * (Reads ? 2 : 1) + tile::bytes(E)];
    unsigned char scores[Reads ? tile::bytes(64) : 1024], outputs[Reads ? tile::bytes(E) : 1024];
    message messages[stages];
    int bad_column[E];
    int bad_token, run_end;
    unsigned bad_values;  // whether any column is
  };
  static constexpr int bytes = sizeof(memory) + 1024;  // so that tiles can start at multiples of 1024

  __device__ causal_pipeline(const Job& job, const Outputs& out, std::int64_t stretches, std::int64_t stretch,
                             unsigned char* shared)
      : job_{job},
        out_{out},
        at_{job.line(blockIdx.x / stretches)},
        begin_{blockIdx.x % stretches * stretch},
        length_{at_.line.length < begin_ + stretch ? at_.line.length : begin_ + stretch},
        shared_{*reinterpret_cast<memory*>(
            shared + (1024 - static_cast<std::uint32_t>(__cvta_generic_to_shared(shared)) % 1024) % 1024)} {}

  __device__ void run() {
    // The compiler has to see that whole warps go one way.
    if (uniform(static_cast<int>(threadIdx.x) / 32) >= readers / 32) {
      weigh();
    } else {
      read();
    }
  }

 private:
  __device__ static warps_barrier weighing() { return {1, weighers}; }
  __device__ static warps_barrier full(int stage) { return {2 + stage, threads}; }
  __device__ static warps_barrier empty(int stage) { return {2 + stages + stage, threads}; }
  __device__ static warps_barrier scoring() { return {2 + 2 * stages, readers}; }
  __device__ static warps_barrier group(int index) { return {3 + 2 * stages + index, 128}; }

  __device__ tile keys(int stage) const { return {shared_.tiles[stage]}; }
  __device__ tile values(int stage) const { return {shared_.tiles[stage] + tile::bytes(D)}; }
  __device__ tile queries(int stage) const { return {shared_.tiles[stage] + tile::bytes(D) + tile::bytes(E)}; }

  // --- Warps that weigh

  /// Starts to copy 16 bytes.
  __device__ static void copy(void* to, const bfloat16* from) {
    const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" : : "r"(address), "l"(from) : "memory");
  }

  /// Starts to read a tile's rows of a sequence. What is masked, and what lies beyond them and the channels, is zero.
  template <int Wide, class Sequence>
  __device__ void load(const Sequence& sequence, const even_rows<const bfloat16>& even, const tile& to,
                       std::int64_t first, std::uint64_t on) const {
    constexpr int parts = Wide / 8, step = weighers / parts;
    const int r0 = thread_ / parts, c = thread_ % parts * 8;
    static_assert(step == 8 || step == 4 || step == 16);
    if (even && on == ~std::uint64_t{0}) {
      const bfloat16* from = even.first + (first + r0) * even.step + c;
#pragma unroll
      for (int r = 0; r < rows; r += step, from += step * even.step) copy(to.part(r0 + r, c), from);
      return;
    }
    load_odd<Wide>(sequence, at_, to, first, on, thread_);
  }

  /// The same for rows that lie anyhow, and where some are left out.
  template <int Wide, class Sequence>
  __device__ __noinline__ static void load_odd(const Sequence& sequence, line_of_head at, tile to, std::int64_t first,
                                               std::uint64_t on, int thread) {
    constexpr int parts = Wide / 8, step = weighers / parts;
    const int r0 = thread / parts, c = thread % parts * 8;
    const std::int64_t channels = sequence.channels(), stride = sequence.channel_stride();
    for (int r = r0; r < rows; r += step) {
      unsigned char* const place = to.part(r, c);
      if ((on >> r & 1U) == 0 || c >= channels) {
        *reinterpret_cast<uint4*>(place) = uint4{};
        continue;
      }
      const bfloat16* const row = sequence.token(at.line.batch, at.head, at.line.token(first + r)) + c * stride;
      if (stride == 1 && c + 8 <= channels && reinterpret_cast<std::uintptr_t>(row) % 16 == 0) {
        copy(place, row);
      } else {
        auto* const numbers = reinterpret_cast<std::uint16_t*>(place);
        for (int e = 0; e < 8; ++e) {
          numbers[e] = c + e < channels ? row[e * stride].bits() : static_cast<std::uint16_t>(0);
        }
      }
    }
  }

  /// Which of the 64 tokens from `first` on are there, and not masked.
  __device__ std::uint64_t tokens_on(std::int64_t first) const {
    const int count = static_cast<int>(length_ - first < rows ? length_ - first : rows);
    if (!job_.from.mask) return ~std::uint64_t{0} >> (64 - count);
    std::uint64_t on = 0;
    for (int half = 0; half < 2; ++half) {
      const int r = half * 32 + thread_ % 32;
      const bool bit = r < count && job_.on(at_, at_.line.token(first + r));
      on |= static_cast<std::uint64_t>(__ballot_sync(~0U, bit)) << (32 * half);
    }
    return on;
  }

  __device__ void load(std::int64_t first, int stage) const {
    if (first < length_) {
      const std::uint64_t on = tokens_on(first);
      load<D>(job_.from.k, even_k_, keys(stage), first, on);
      load<E>(job_.from.v, even_v_, values(stage), first, on);
      if constexpr (Reads) load<D>(job_.from.q, even_q_, queries(stage), first, on);
    }
    asm volatile("cp.async.commit_group;" : : : "memory");
  }

  /// Makes entries of v that are no numbers zero, each thread those that it has read, and keeps where.
  __device__ void clean_values(const tile& v, std::int64_t first) const {
    constexpr int parts = E / 8, step = weighers / parts;
    const int r0 = thread_ / parts, c = thread_ % parts * 8;
    const auto odd = [](std::uint32_t pair) { return ((pair & 0x7FFF7FFFU) + 0x00800080U) & 0x80008000U; };
    std::uint32_t any = 0;
#pragma unroll
    for (int r = 0; r < rows; r += step) {
      const uint4 x = *reinterpret_cast<const uint4*>(v.part(r0 + r, c));
      any |= odd(x.x) | odd(x.y) | odd(x.z) | odd(x.w);
    }
    if (any == 0) return;
    atomicOr(&shared_.bad_values, 1U);
    for (int r = r0; r < rows; r += step) {
      for (int e = 0; e < 8; ++e) {
        std::uint16_t& x = *v.at(r, c + e);
        if ((x & 0x7F80U) != 0x7F80U) continue;
        x = 0;
        atomicMin(shared_.bad_column + c + e, static_cast<int>(first + r));
      }
    }
  }

  __device__ void weigh() {
    thread_ = static_cast<int>(threadIdx.x) - readers;
    even_k_ = even_rows<const bfloat16>::of(job_.from.k, at_, D);
    even_v_ = even_rows<const bfloat16>::of(job_.from.v, at_, E);
    if constexpr (Reads) even_q_ = even_rows<const bfloat16>::of(job_.from.q, at_, D);
    for (int n = thread_; n < E; n += weighers) shared_.bad_column[n] = INT_MAX;
    if (thread_ == 0) {
      shared_.bad_token = INT_MAX;
      shared_.bad_values = 0;
    }
    weighing().meet();
    channel_weights<Job> weights(job_, at_, thread_, &shared_.bad_token, Reads);
    // Two tiles are on their way when the first is weighed.
    int stage = stages - 2;
    for (std::int64_t first = begin_ - 2 * rows; first < length_; first += rows) {
      const int before = stage == 0 ? stages - 1 : stage - 1;
      if (first >= begin_) {
        weigh(weights, first, stage);
        if (first > begin_) {
          empty(before).meet();
        } else {
          weighing().meet();
        }
      }
      load(first + 2 * rows, before);
      stage = stage + 1 == stages ? 0 : stage + 1;
    }
    if (length_ <= begin_) stage = 0;
    message& to = shared_.messages[stage];
    to.rescale[thread_] = weights.gain;
    weighing().meet();
    send_bad(to);
    if (thread_ == 0) to.ends = true;
    full(stage).pass();
    if (length_ > begin_) empty(stage == 0 ? stages - 1 : stage - 1).meet();
    store_weights(weights);
  }

  /// A tile: its weights, and word to the readers.
  __device__ void weigh(channel_weights<Job>& weights, std::int64_t first, int stage) {
    const int count = static_cast<int>(length_ - first < rows ? length_ - first : rows);
    const std::uint64_t on = tokens_on(first);
    for (int start = 0, last = 0; start < count; start = last + 1) {
      if (start > 0) {  // the keys and queries once more
        empty(stage).meet();
        load(first, stage);
        asm volatile("cp.async.wait_group 0;" : : : "memory");
      } else {
        asm volatile("cp.async.wait_group 1;" : : : "memory");
      }
      clean_values(values(stage), first);
      weighing().meet();
      last = count - 1;
      const auto counted = [&] { return on & ~std::uint64_t{0} >> (63 - last) & ~std::uint64_t{0} << start; };
      if (weighing().any(weights.begin(keys(stage), first, counted()) > widest_run)) {
        if (thread_ == 0) shared_.run_end = count;
        weighing().meet();
        atomicMin(&shared_.run_end, weights.first_wide(start, count));
        weighing().meet();
        last = shared_.run_end - 1;
        weights.begin(keys(stage), first, counted());
      }
      message& to = shared_.messages[stage];
      to.rescale[thread_] = weights.template enter<Reads>(queries(stage));
      send_bad(to);
      if (thread_ == 0) {
        to.on = on;
        to.start = start;
        to.last = last;
        to.again = last + 1 < count;
        to.ends = false;
      }
      publish_to_products();
      full(stage).pass();
    }
  }

  /// What is bad so far. All weighers have met since they looked.
  __device__ void send_bad(message& to) const {
    for (int n = thread_; n < E; n += weighers) to.bad_column[n] = shared_.bad_column[n];
    if (thread_ != 0) return;
    to.bad_token = shared_.bad_token;
    to.bad = shared_.bad_values != 0 || shared_.bad_token != INT_MAX;
  }

  /// The weights of the final state, or of what a stretch adds up to.
  __device__ void store_weights(const channel_weights<Job>& weights) const {
    const std::int64_t w = weights.channel;
    if constexpr (Reads) {
      if (!out_.state || w >= job_.width) return;
      const bool bad = shared_.bad_token < length_;
      const float nan = limits<float>::not_a_number;
      if constexpr (Job::recurrence::framed) {
        out_.state.exponent(at_.line.sequence, at_.head, w) = weights.m;
        out_.state.normaliser(at_.line.sequence, at_.head, w) = bad ? nan : weights.z;
      } else if (out_.state.decay) {
        out_.state.decay(at_.line.sequence, at_.head, w) = bad ? nan : weights.product;
      }
    } else {
      if constexpr (Job::sums) {
        if (w < job_.width) {
          out_.exponent[blockIdx.x * job_.width + w] = weights.m;
          out_.normaliser[blockIdx.x * job_.width + w] = weights.z;
        }
      }
      if (thread_ == 0 && shared_.bad_token != INT_MAX) {
        atomicMin(job_.bad_token + at_.item, static_cast<unsigned long long>(shared_.bad_token));
      }
      for (std::int64_t n = thread_; n < job_.from.values; n += weighers) {
        if (shared_.bad_column[n] == INT_MAX) continue;
        atomicMin(job_.bad_column + at_.item * job_.from.values + n,
                  static_cast<unsigned long long>(shared_.bad_column[n]));
      }
    }
  }

  // --- Warps that read

  /// Calls body(x, i, j) for every element of the state that this thread has, column j of channel i.
  template <class Body>
  __device__ void each_of_state(const Body& body) {
    const int lane = static_cast<int>(threadIdx.x) % 32, row = static_cast<int>(threadIdx.x) / 32 * 16 + lane / 4;
#pragma unroll
    for (int panel = 0; panel < D / 64; ++panel) {
#pragma unroll
      for (int n = 0; n < 32; ++n) {
        body(state_[panel][n], panel * 64 + n / 4 * 8 + lane % 4 * 2 + n % 2, row + n / 2 % 2 * 8);
      }
    }
  }

  __device__ void read() {
    const int index = uniform(static_cast<int>(threadIdx.x) / 128), lane = static_cast<int>(threadIdx.x) % 32;
    const std::int64_t values_count = job_.from.values, keys_count = job_.from.keys;
    each_of_state([&](float& x, int, int) { x = 0; });
    if (Reads && job_.from.state) {
      const auto& sum = job_.from.state.sum;
      const float* const start = &sum(at_.line.sequence, at_.head, 0, 0);
      each_of_state([&](float& x, int i, int j) {
        if (i >= keys_count || j >= values_count || job_.begins_empty(at_, i)) return;
        x = start[i * sum.stride(2) + j * sum.stride(3)];
      });
    }
    if constexpr (Reads) even_o_ = even_rows<output_type>::of(out_.o, at_, E);
    std::int64_t first = begin_;
    for (int stage = 0;;) {
      full(stage).meet();
      const message& from = shared_.messages[stage];
#pragma unroll
      for (int panel = 0; panel < D / 64; ++panel) {
#pragma unroll
        for (int n = 0; n < 32; n += 4) {
          const float2 by = *reinterpret_cast<const float2*>(from.rescale + panel * 64 + n * 2 + lane % 4 * 2);
          state_[panel][n] *= by.x;
          state_[panel][n + 1] *= by.y;
          state_[panel][n + 2] *= by.x;
          state_[panel][n + 3] *= by.y;
        }
      }
      if (uniform(from.ends)) break;
      const bool again = uniform(from.again) != 0;
      if constexpr (Reads) {
        const int start = from.start, last = from.last;
        const std::uint64_t on = from.on;
        const bool odd = uniform(from.bad || on != ~std::uint64_t{0}) != 0;
        float o[32];
        multiply(stage, index, o);
        if (!odd) empty(stage).pass();
        store(o, index, first, start, last, on, odd ? &from : nullptr);
        if (odd) empty(stage).pass();
      } else {
        begin_products();
        add_to_state(stage, index);
        commit_products();
        wait_for_products<0>();
        empty(stage).pass();
      }
      if (again) continue;
      first += rows;
      stage = stage + 1 == stages ? 0 : stage + 1;
    }
    store_state();
  }

  /// U^T += V^T khat.
  __device__ void add_to_state(int stage, int index) {
#pragma unroll
    for (int s = 0; s < rows; s += 16) {
#pragma unroll
      for (int panel = 0; panel < D / 64; ++panel) {
        multiply_add_group(state_[panel], values(stage).along_rows(s, index * 64),
                           keys(stage).along_rows(s, panel * 64));
      }
    }
  }

  /// o^T of a tile, and the state after it.
  __device__ void multiply(int stage, int index, float (&o)[32]) {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) % 128 / 32;
    const tile q = queries(stage), k = keys(stage), v = values(stage), scores{shared_.scores};
    constexpr int columns = rows / groups;  // of the scores, which the groups share
    float p[columns / 2];
#pragma unroll
    for (int n = 0; n < columns / 2; ++n) p[n] = 0;
    begin_products();
#pragma unroll
    for (int i = 0; i < D; i += 16) {
      multiply_add_group(p, q.along_columns(0, i), k.along_columns(index * columns, i));
    }
    commit_products();
    std::uint32_t u[D / 16][4];
#pragma unroll
    for (int i = 0; i < D / 16; ++i) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        u[i][e] = pack_bfloat16(state_[i / 4][i % 4 * 8 + e * 2], state_[i / 4][i % 4 * 8 + e * 2 + 1]);
      }
    }
    wait_for_products<0>();
    // What lies above the diagonal is zero by selection.
#pragma unroll
    for (int n = 0; n < columns / 2; n += 2) {
      const int t = warp * 16 + lane / 4 + n / 2 % 2 * 8, s = index * columns + n / 4 * 8 + lane % 4 * 2;
      *reinterpret_cast<std::uint32_t*>(scores.at(t, s)) =
          pack_bfloat16(s <= t ? p[n] : 0.0F, s + 1 <= t ? p[n + 1] : 0.0F);
    }
    publish_to_products();
    scoring().meet();
#pragma unroll
    for (int n = 0; n < 32; ++n) o[n] = 0;
    begin_products();
#pragma unroll
    for (int i = 0; i < D; i += 16) multiply_add_group(o, u[i / 16], q.along_columns(0, i));
#pragma unroll
    for (int s = 0; s < rows; s += 16) {
      multiply_add_group(o, v.along_rows(s, index * 64), scores.along_columns(0, s));
    }
    add_to_state(stage, index);
    commit_products();
    wait_for_products<0>();
  }

  /// The sums of eight numbers and eight others.
  __device__ static uint4 sum_of(const uint4& a, const uint4& b) {
    const auto pair = [](std::uint32_t x, std::uint32_t y) {
      return pack_bfloat16(lower_bfloat16(x) + lower_bfloat16(y), upper_bfloat16(x) + upper_bfloat16(y));
    };
    return {pair(a.x, b.x), pair(a.y, b.y), pair(a.z, b.z), pair(a.w, b.w)};
  }

  /// Writes rows [start, last] of o; `odd`: some of them are masked, or NaN.
  __device__ void store(const float (&o)[32], int index, std::int64_t first, int start, int last, std::uint64_t on,
                        const message* odd) const {
    const int thread = static_cast<int>(threadIdx.x) % 128, lane = thread % 32, warp = thread / 32;
    const tile to{shared_.outputs + index * tile::panel_bytes};
    group(index).meet();  // who still reads what was there before
#pragma unroll
    for (int t = 0; t < rows; t += 16) {
      const std::uint32_t packed[4] = {pack_bfloat16(o[t / 2], o[t / 2 + 1]), pack_bfloat16(o[t / 2 + 2], o[t / 2 + 3]),
                                       pack_bfloat16(o[t / 2 + 4], o[t / 2 + 5]),
                                       pack_bfloat16(o[t / 2 + 6], o[t / 2 + 7])};
      store_matrices_transposed(to.part(t + lane / 16 * 8 + lane % 8, warp * 16 + lane / 8 % 2 * 8), packed);
    }
    group(index).meet();
    const int c = thread % 8 * 8, column = index * 64 + c;
    if (even_o_ && odd == nullptr && start == 0 && last == rows - 1) {
      output_type* at = even_o_.first + (first + thread / 8) * even_o_.step + column;
#pragma unroll
      for (int r = thread / 8; r < rows; r += 16, at += 16 * even_o_.step) {
        uint4 x = *reinterpret_cast<const uint4*>(to.part(r, c));
        if (out_.accumulate) x = sum_of(x, *reinterpret_cast<const uint4*>(at));
        *reinterpret_cast<uint4*>(at) = x;
      }
      return;
    }
    const std::int64_t stride = out_.o.channel_stride();
    for (int r = thread / 8; r <= last; r += 16) {
      const bool masked = (on >> r & 1U) == 0;
      if (r < start || (masked && out_.accumulate)) continue;
      auto* const row = out_.o.token(at_.line.batch, at_.head, at_.line.token(first + r));
      const int position = static_cast<int>(first) + r;
      for (int e = 0; e < 8 && column + e < job_.from.values; ++e) {
        const bool bad = odd != nullptr && (position >= odd->bad_token || position >= odd->bad_column[column + e]);
        output_type& place = row[(column + e) * stride];
        float x = static_cast<float>(output_type::from_bits(*to.at(r, c + e)));
        if (out_.accumulate) x += static_cast<float>(place);
        place = static_cast<output_type>(masked ? 0.0F : bad ? limits<float>::not_a_number : x);
      }
    }
  }

  /// The final state, or what a stretch adds up to.
  __device__ void store_state() {
    const std::int64_t values_count = job_.from.values, keys_count = job_.from.keys;
    if constexpr (Reads) {
      if (!out_.state) return;
      each_of_state([&](float& x, int i, int j) {
        if (i >= keys_count || j >= values_count) return;
        const bool bad = shared_.bad_token < length_ || shared_.bad_column[j] < length_;
        out_.state.sum(at_.line.sequence, at_.head, i, j) = bad ? limits<float>::not_a_number : x;
      });
    } else {
      each_of_state([&](float& x, int i, int j) {
        if (i < keys_count && j < values_count) {
          out_.sum[(blockIdx.x * keys_count + i) * values_count + j] = x;
        }
      });
    }
  }

  using output_type = bfloat16;

  __device__ static int uniform(int of_warp) { return __shfl_sync(~0U, of_warp, 0); }

  const Job& job_;
  const Outputs& out_;
  const line_of_head at_;
  const std::int64_t begin_, length_;
  memory& shared_;
  int thread_ = 0;  // of those that weigh
  even_rows<const bfloat16> even_q_{}, even_k_{}, even_v_{};
  even_rows<output_type> even_o_{};
  float state_[D / 64][32];
};

template <bool Reads, class Job, class Outputs, int D, int E>
__global__ void __launch_bounds__(causal_pipeline<Reads, Job, Outputs, D, E>::threads,
                                  causal_pipeline<Reads, Job, Outputs, D, E>::blocks_of_processor)
    causal_pipeline_kernel(const __grid_constant__ Job job, const __grid_constant__ Outputs out, std::int64_t stretches,
                           std::int64_t stretch) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ unsigned char shared_memory[];
  causal_pipeline<Reads, Job, Outputs, D, E>(job, out, stretches, stretch, shared_memory).run();
#endif
}

/// Puts causal_pipeline_kernel on the stream, in the smallest of its tiles.
template <bool Reads, class Job, class Outputs>
void run_causal_pipeline(execution<cuda>& on, const char* operation, const Job& job, const Outputs& outputs,
                         std::int64_t stretches, std::int64_t stretch) {
  const auto run = [&]<int D, int E>() {
    using pipeline = causal_pipeline<Reads, Job, Outputs, D, E>;
    launch(on, operation, {job.from.items() * stretches, pipeline::threads, static_cast<std::size_t>(pipeline::bytes)},
           causal_pipeline_kernel<Reads, Job, Outputs, D, E>, job, outputs, stretches, stretch);
  };
  if (job.from.keys <= 64 && job.from.values <= 64) {
    run.template operator()<64, 64>();
  } else {
    run.template operator()<128, 128>();
  }
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
