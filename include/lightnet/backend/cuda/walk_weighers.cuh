// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/walk_memory.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The warps of a walk that read the operands from memory and make the factors, a thread a channel of the key.
template <walk_for What, class Job, class Outputs, int D>
class walk_weighers : walk_part<What, Job, Outputs, D> {
 public:
  using part = walk_part<What, Job, Outputs, D>;
  using typename part::plan, typename part::memory, typename part::tile, typename part::message;
  using part::rows, part::job_, part::out_, part::kept_, part::line_, part::shared_;
  static constexpr int threads = plan::weighers;

  __device__ explicit walk_weighers(const part& given)
      : part{given}, thread_{static_cast<int>(threadIdx.x) - plan::readers} {}

  __device__ void run() {
    even_k_ = even_rows<const bfloat16>::of(job_.from.k, line_.at, D);
    if constexpr (plan::loads_v) even_v_ = even_rows<const bfloat16>::of(job_.from.v, line_.at, D);
    if constexpr (plan::loads_q) even_q_ = even_rows<const bfloat16>::of(job_.from.q, line_.at, D);
    if constexpr (plan::loads_incoming) even_incoming_ = even_rows<const bfloat16>::of(out_.o, line_.at, D);
    shared_.bad_column[thread_] = INT_MAX;
    if (thread_ == 0) {
      shared_.bad_token = INT_MAX;
      shared_.bad_values = 0;
    }
    memory::weighing().meet();
    channel_weights<Job> weights(job_, line_.at, thread_, &shared_.bad_token, What != walk_for::totals);
    const std::int64_t tiles = line_.tiles();
    int stage = plan::stages - plan::ahead;
    // Tiles are on their way when the first is weighed.
    for (std::int64_t turn = -plan::ahead; turn < tiles; ++turn) {
      const int before = memory::before(stage);
      if (turn >= 0) {
        if (!weigh(weights, turn, stage)) return;
        if (plan::multiplies && turn > 0) {
          memory::empty(before).meet();
        } else {
          memory::weighing().meet();
        }
      }
      load(turn + plan::ahead, before);
      stage = memory::next(stage);
    }
    if constexpr (plan::multiplies) {
      message& to = shared_.messages[stage];
      to.rescale[thread_] = weights.gain;
      memory::weighing().meet();
      send_bad(to);
      if (thread_ == 0) to.ends = true;
      memory::full(stage).pass();
      if (tiles > 0) memory::empty(memory::before(stage)).meet();
      if constexpr (plan::forward_call) store(weights);
    }
  }

 private:
  /// The first position of the tile of a turn.
  __device__ std::int64_t first_of(std::int64_t turn) const {
    return line_.begin + (plan::backwards ? line_.tiles() - 1 - turn : turn) * rows;
  }
  __device__ int count_of(std::int64_t first) const {
    return static_cast<int>(line_.length - first < rows ? line_.length - first : rows);
  }

  /// Which of the 64 tokens from `first` on are there, and not masked.
  __device__ std::uint64_t tokens_on(std::int64_t first) const {
    const int count = count_of(first);
    if (!job_.from.mask) return ~std::uint64_t{0} >> (64 - count);
    std::uint64_t on = 0;
    for (int half = 0; half < 2; ++half) {
      const int r = half * 32 + thread_ % 32;
      const bool bit = r < count && job_.on(line_.at, line_.at.line.token(first + r));
      on |= static_cast<std::uint64_t>(__ballot_sync(~0U, bit)) << (32 * half);
    }
    return on;
  }

  /// Starts to copy 16 bytes.
  __device__ static void copy(void* to, const bfloat16* from) {
    const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" : : "r"(address), "l"(from) : "memory");
  }

  /// Starts to read the rows of a tile. What is masked, and what lies beyond them and the channels, is zero.
  template <class Sequence>
  __device__ void load(const Sequence& sequence, const even_rows<const bfloat16>& even, const tile& to,
                       std::int64_t first, std::uint64_t on) const {
    constexpr int parts = D / 8, step = threads / parts;
    const int r0 = thread_ / parts, c = thread_ % parts * 8;
    if (even && on == ~std::uint64_t{0}) {
      const bfloat16* from = even.first + (first + r0) * even.step + c;
#pragma unroll
      for (int r = 0; r < rows; r += step, from += step * even.step) copy(to.part(r0 + r, c), from);
      return;
    }
    load_odd(sequence, line_.at, to, first, on, thread_);
  }

  /// The same for rows that lie anyhow, and where some are left out.
  template <class Sequence>
  __device__ __noinline__ static void load_odd(const Sequence& sequence, line_of_head at, tile to, std::int64_t first,
                                               std::uint64_t on, int thread) {
    constexpr int parts = D / 8, step = threads / parts;
    const int c = thread % parts * 8;
    const std::int64_t channels = sequence.channels(), stride = sequence.channel_stride();
    for (int r = thread / parts; r < rows; r += step) {
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

  /// Starts to read the tile of a turn, where there is one.
  __device__ void load(std::int64_t turn, int stage) const {
    if (turn < line_.tiles()) {
      const std::int64_t first = first_of(turn);
      const std::uint64_t on = tokens_on(first);
      load(job_.from.k, even_k_, shared_.k(stage), first, on);
      if constexpr (plan::loads_v) load(job_.from.v, even_v_, shared_.v(stage), first, on);
      if constexpr (plan::loads_q) load(job_.from.q, even_q_, shared_.q(stage), first, on);
      if constexpr (plan::loads_incoming) load(out_.o, even_incoming_, shared_.incoming(stage), first, on);
    }
    asm volatile("cp.async.commit_group;" : : : "memory");
  }

  /// Makes entries of v that are no numbers zero, each thread those that it has read, and keeps where they were.
  __device__ void clean_values(const tile& v, std::int64_t first) const {
    constexpr int parts = D / 8, step = threads / parts;
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

  /// A tile: its factors, and word to the readers. False where the walk ends here.
  __device__ bool weigh(channel_weights<Job>& weights, std::int64_t turn, int stage) {
    const std::int64_t first = first_of(turn);
    const int count = count_of(first);
    const std::uint64_t on = tokens_on(first);
    if constexpr (!plan::forward_call) carry_from(weights, first / rows);
    for (int start = 0, last = 0; start < count; start = last + 1) {
      if (start > 0) {  // the keys and queries once more
        memory::empty(stage).meet();
        load(turn, stage);
        asm volatile("cp.async.wait_group 0;" : : : "memory");
      } else {
        asm volatile("cp.async.wait_group %0;" : : "n"(plan::ahead - 1) : "memory");
      }
      if constexpr (plan::loads_v) clean_values(shared_.v(stage), first);
      memory::weighing().meet();
      last = count - 1;
      const auto counted = [&] { return on & ~std::uint64_t{0} >> (63 - last) & ~std::uint64_t{0} << start; };
      const bool wide = memory::weighing().any(weights.begin(shared_.k(stage), first, counted()) > widest_run);
      if constexpr (What == walk_for::factors) {
        if (wide || shared_.bad_values != 0 || shared_.bad_token != INT_MAX) {
          if (thread_ == 0) kept_.redo[line_.at.item] = 1;
          return false;
        }
      } else if constexpr (plan::forward_call) {  // a gradient has no such lines
        if (wide) {
          if (thread_ == 0) shared_.run_end = count;
          memory::weighing().meet();
          atomicMin(&shared_.run_end, weights.first_wide(start, count));
          memory::weighing().meet();
          last = shared_.run_end - 1;
          weights.begin(shared_.k(stage), first, counted());
        }
      }
      const float by = weights.template enter<plan::factors>(shared_.q(stage), shared_.extra(stage));
      if constexpr (!plan::multiplies) continue;
      message& to = shared_.messages[stage];
      to.rescale[thread_] = plan::backwards ? later_by_ : by;
      later_by_ = by;
      send_bad(to);
      if (thread_ == 0) {
        to.on = on;
        to.start = start;
        to.last = last;
        to.again = last + 1 < count;
        to.ends = false;
      }
      publish_to_products();
      memory::full(stage).pass();
    }
    return true;
  }

  /// What is bad so far. All weighers have met since they looked.
  __device__ void send_bad(message& to) const {
    to.bad_column[thread_] = shared_.bad_column[thread_];
    if (thread_ != 0) return;
    to.bad_token = shared_.bad_token;
    to.bad = shared_.bad_values != 0 || shared_.bad_token != INT_MAX;
  }

  /// What is carried to a tile: kept by the walk for the factors, known to the others.
  __device__ void carry_from(channel_weights<Job>& weights, std::int64_t index) const {
    if (!weights.has()) return;
    const std::int64_t place = kept_.place(line_.at, index, job_.width, weights.own_weight());
    float& factor = Job::sums ? weights.z : weights.gain;
    if constexpr (What == walk_for::factors) {
      kept_.exponent[place] = weights.m;
      kept_.normaliser[place] = factor;
    } else {
      weights.m = kept_.exponent[place];
      factor = kept_.normaliser[place];
    }
  }

  /// The weights of the final state, or of what a stretch adds up to.
  __device__ void store(const channel_weights<Job>& weights) const {
    const line_of_head& at = line_.at;
    const std::int64_t w = weights.channel;
    if constexpr (What == walk_for::outputs) {
      if (!out_.state || w >= job_.width) return;
      const bool bad = shared_.bad_token < line_.length;
      const float nan = limits<float>::not_a_number;
      if constexpr (Job::recurrence::framed) {
        out_.state.exponent(at.line.sequence, at.head, w) = weights.m;
        out_.state.normaliser(at.line.sequence, at.head, w) = bad ? nan : weights.z;
      } else if (out_.state.decay) {
        out_.state.decay(at.line.sequence, at.head, w) = bad ? nan : weights.product;
      }
    } else {
      if constexpr (Job::sums) {
        if (w < job_.width) {
          out_.exponent[blockIdx.x * job_.width + w] = weights.m;
          out_.normaliser[blockIdx.x * job_.width + w] = weights.z;
        }
      }
      if (thread_ == 0 && shared_.bad_token != INT_MAX) {
        atomicMin(job_.bad_token + at.item, static_cast<unsigned long long>(shared_.bad_token));
      }
      if (w < job_.from.values && shared_.bad_column[w] != INT_MAX) {
        atomicMin(job_.bad_column + at.item * job_.from.values + w,
                  static_cast<unsigned long long>(shared_.bad_column[w]));
      }
    }
  }

  const int thread_;
  float later_by_ = 1.0F;
  even_rows<const bfloat16> even_q_{}, even_k_{}, even_v_{}, even_incoming_{};
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
