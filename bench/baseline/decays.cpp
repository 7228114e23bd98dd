// SPDX-License-Identifier: Apache-2.0
#include "baseline/token_by_token.hpp"

#include <lightnet/core/config.hpp>

#include <cmath>
#include <vector>

namespace bench::plain {

namespace {

// What a decay is shared by. Each gives the decay of channel i of token t, where decay(t) has been made for the token.
struct of_head {
  explicit of_head(const head& h) : decay{std::exp(h.log_decay[0])} {}
  void at(const head&, std::int64_t) {}
  float operator()(std::int64_t) const { return decay; }
  float decay;
};
struct of_token {
  explicit of_token(const head&) {}
  void at(const head& h, std::int64_t t) { decay = std::exp(h.log_decay[t * h.log_decay_stride]); }
  float operator()(std::int64_t) const { return decay; }
  float decay = 1;
};
struct of_channel {
  explicit of_channel(const head&) {}
  void at(const head& h, std::int64_t t) { log_decay = h.log_decay + t * h.log_decay_stride; }
  float operator()(std::int64_t i) const { return std::exp(log_decay[i]); }
  const float* log_decay = nullptr;
};

template <class Decay, bool KeyIsComplement = false>
void forward(const head& h) {
  const std::int64_t d = h.width, e = h.width;
  std::vector<float> state(static_cast<std::size_t>(d * e));
  float* const S = state.data();
  Decay decay{h};
  for (std::int64_t t = 0; t < h.tokens; ++t) {
    const float *q = h.q + t * h.stride, *k = h.k + t * h.stride, *v = h.v + t * h.stride;
    float* o = h.o + t * h.stride;
    decay.at(h, t);
    for (std::int64_t j = 0; j < e; ++j) o[j] = 0;
    for (std::int64_t i = 0; i < d; ++i) {
      const float a = decay(i), key = KeyIsComplement ? 1 - a : k[i], read = q[i];
      for (std::int64_t j = 0; j < e; ++j) {
        S[i * e + j] = a * S[i * e + j] + key * v[j];
        o[j] += read * S[i * e + j];
      }
    }
  }
}

template <class Decay>
void backward(const head& h) {
  const std::int64_t d = h.width, e = h.width;
  std::vector<float> state(static_cast<std::size_t>(d * e));
  float* const S = state.data();
  Decay decay{h};
  for (std::int64_t t = 0; t < h.tokens; ++t) {
    const float *k = h.k + t * h.stride, *v = h.v + t * h.stride, *do_ = h.do_ + t * h.stride;
    float* dq = h.dq + t * h.stride;
    decay.at(h, t);
    for (std::int64_t i = 0; i < d; ++i) {
      const float a = decay(i), key = k[i];
      float read = 0;
      LIGHTNET_OMP(omp simd reduction(+ : read))
      for (std::int64_t j = 0; j < e; ++j) {
        S[i * e + j] = a * S[i * e + j] + key * v[j];
        read += S[i * e + j] * do_[j];
      }
      dq[i] = read;
    }
  }
  // W arrives at token t without the decay of t + 1.
  std::vector<float> later(static_cast<std::size_t>(d * e)), sums(static_cast<std::size_t>(d));
  std::vector<float> decays(static_cast<std::size_t>(d), 1.0F);
  float *W = later.data(), *c = sums.data();
  float dhead = 0;
  for (std::int64_t t = h.tokens; t-- > 0;) {
    const float *q = h.q + t * h.stride, *k = h.k + t * h.stride, *v = h.v + t * h.stride, *do_ = h.do_ + t * h.stride;
    float *dq = h.dq + t * h.stride, *dk = h.dk + t * h.stride, *dv = h.dv + t * h.stride;
    for (std::int64_t j = 0; j < e; ++j) dv[j] = 0;
    float dtoken = 0;
    for (std::int64_t i = 0; i < d; ++i) {
      const float a = decays[static_cast<std::size_t>(i)], query = q[i], key = k[i];
      float taken = 0;
      LIGHTNET_OMP(omp simd reduction(+ : taken))
      for (std::int64_t j = 0; j < e; ++j) {
        W[i * e + j] = a * W[i * e + j] + query * do_[j];
        dv[j] += key * W[i * e + j];
        taken += W[i * e + j] * v[j];
      }
      dk[i] = taken;
      c[i] += query * dq[i] - key * taken;
      dtoken += c[i];
      if constexpr (std::is_same_v<Decay, of_channel>) h.dlog_decay[t * h.log_decay_stride + i] = c[i];
    }
    if constexpr (std::is_same_v<Decay, of_token>) h.dlog_decay[t * h.log_decay_stride] = dtoken;
    dhead += dtoken;
    decay.at(h, t);
    for (std::int64_t i = 0; i < d; ++i) decays[static_cast<std::size_t>(i)] = decay(i);
  }
  if constexpr (std::is_same_v<Decay, of_head>) h.dlog_decay[0] = dhead;
}

template <bool Logarithm>
float decay_from(float x) {
  return Logarithm ? std::exp(x) : x;
}

template <bool Logarithm>
void elementwise_forward_of(const head& h) {
  std::vector<float> states(static_cast<std::size_t>(h.width));
  float* const state = states.data();
  for (std::int64_t t = 0; t < h.tokens; ++t) {
    const float *a = h.log_decay + t * h.log_decay_stride, *x = h.v + t * h.stride;
    float* o = h.o + t * h.stride;
    for (std::int64_t j = 0; j < h.width; ++j) {
      state[j] = decay_from<Logarithm>(a[j]) * state[j] + x[j];
      o[j] = state[j];
    }
  }
}

// o is what forward left. The last token has no decay after it.
template <bool Logarithm>
void elementwise_backward_of(const head& h) {
  std::vector<float> later(static_cast<std::size_t>(h.width)), decays(static_cast<std::size_t>(h.width));
  float *w = later.data(), *next = decays.data();
  for (std::int64_t t = h.tokens; t-- > 0;) {
    const float *a = h.log_decay + t * h.log_decay_stride, *do_ = h.do_ + t * h.stride;
    const float* before = t > 0 ? h.o + (t - 1) * h.stride : nullptr;
    float *dx = h.dv + t * h.stride, *da = h.dlog_decay + t * h.log_decay_stride;
    for (std::int64_t j = 0; j < h.width; ++j) {
      w[j] = next[j] * w[j] + do_[j];
      next[j] = decay_from<Logarithm>(a[j]);
      dx[j] = w[j];
      da[j] = before ? w[j] * before[j] * (Logarithm ? next[j] : 1) : 0;
    }
  }
}

}  // namespace

void constant_decay_forward(const head& h) { forward<of_head>(h); }
void constant_decay_backward(const head& h) { backward<of_head>(h); }
void scalar_decay_forward(const head& h) { forward<of_token>(h); }
void scalar_decay_backward(const head& h) { backward<of_token>(h); }
void vector_decay_forward(const head& h) { forward<of_channel>(h); }
void vector_decay_backward(const head& h) { backward<of_channel>(h); }
void hgrn2_forward(const head& h) { forward<of_channel, true>(h); }

void elementwise_forward(const head& h) { elementwise_forward_of<true>(h); }
void elementwise_backward(const head& h) {
  elementwise_forward_of<true>(h);
  elementwise_backward_of<true>(h);
}
void affine_forward(const head& h) { elementwise_forward_of<false>(h); }
void affine_backward(const head& h) { elementwise_backward_of<false>(h); }

}  // namespace bench::plain
