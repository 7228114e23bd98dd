// SPDX-License-Identifier: Apache-2.0
#include "baseline/token_by_token.hpp"

#include <lightnet/core/config.hpp>

#include <cmath>
#include <vector>

namespace bench::plain {

namespace {

/// Z and U of all tokens.
struct total {
  std::vector<float> normaliser, sum;  // [d], [d, e]

  explicit total(const head& h)
      : normaliser(static_cast<std::size_t>(h.width)), sum(static_cast<std::size_t>(h.width * h.width)) {
    const std::int64_t d = h.width, e = h.width;
    float *Z = normaliser.data(), *U = sum.data();
    for (std::int64_t t = 0; t < h.tokens; ++t) {
      const float *k = h.k + t * h.stride, *v = h.v + t * h.stride;
      for (std::int64_t i = 0; i < d; ++i) {
        const float weight = std::exp(k[i]);
        Z[i] += weight;
        for (std::int64_t j = 0; j < e; ++j) U[i * e + j] += weight * v[j];
      }
    }
  }
};

}  // namespace

void additive_causal_forward(const head& h) {
  const std::int64_t d = h.width, e = h.width;
  std::vector<float> normaliser(static_cast<std::size_t>(d)), sum(static_cast<std::size_t>(d * e));
  float *Z = normaliser.data(), *U = sum.data();
  for (std::int64_t t = 0; t < h.tokens; ++t) {
    const float *q = h.q + t * h.stride, *k = h.k + t * h.stride, *v = h.v + t * h.stride;
    float* o = h.o + t * h.stride;
    for (std::int64_t j = 0; j < e; ++j) o[j] = 0;
    for (std::int64_t i = 0; i < d; ++i) {
      const float weight = std::exp(k[i]);
      Z[i] += weight;
      const float read = q[i] / Z[i];
      for (std::int64_t j = 0; j < e; ++j) {
        U[i * e + j] += weight * v[j];
        o[j] += read * U[i * e + j];
      }
    }
  }
}

void additive_causal_backward(const head& h) {
  const std::int64_t d = h.width, e = h.width;
  std::vector<float> normaliser(static_cast<std::size_t>(h.tokens * d)), sum(static_cast<std::size_t>(d * e));
  float* const U = sum.data();
  for (std::int64_t t = 0; t < h.tokens; ++t) {
    const float *k = h.k + t * h.stride, *v = h.v + t * h.stride, *do_ = h.do_ + t * h.stride;
    float* dq = h.dq + t * h.stride;
    float* Z = normaliser.data() + t * d;
    for (std::int64_t i = 0; i < d; ++i) {
      const float weight = std::exp(k[i]);
      Z[i] = (t > 0 ? Z[i - d] : 0) + weight;
      float read = 0;
      LIGHTNET_OMP(omp simd reduction(+ : read))
      for (std::int64_t j = 0; j < e; ++j) {
        U[i * e + j] += weight * v[j];
        read += U[i * e + j] * do_[j];
      }
      dq[i] = read / Z[i];
    }
  }
  std::vector<float> later(static_cast<std::size_t>(d * e)), reads(static_cast<std::size_t>(d));
  float *W = later.data(), *r = reads.data();
  for (std::int64_t t = h.tokens; t-- > 0;) {
    const float *q = h.q + t * h.stride, *k = h.k + t * h.stride, *v = h.v + t * h.stride, *do_ = h.do_ + t * h.stride;
    float *dq = h.dq + t * h.stride, *dk = h.dk + t * h.stride, *dv = h.dv + t * h.stride;
    const float* Z = normaliser.data() + t * d;
    for (std::int64_t j = 0; j < e; ++j) dv[j] = 0;
    for (std::int64_t i = 0; i < d; ++i) {
      const float weight = std::exp(k[i]), query = q[i] / Z[i];
      r[i] += query * dq[i];
      float taken = 0;
      LIGHTNET_OMP(omp simd reduction(+ : taken))
      for (std::int64_t j = 0; j < e; ++j) {
        W[i * e + j] += query * do_[j];
        dv[j] += weight * W[i * e + j];
        taken += W[i * e + j] * v[j];
      }
      dk[i] = weight * (taken - r[i]);
    }
  }
}

void additive_global_forward(const head& h) {
  const std::int64_t d = h.width, e = h.width;
  const total all{h};
  const float *Z = all.normaliser.data(), *U = all.sum.data();
  for (std::int64_t t = 0; t < h.tokens; ++t) {
    const float* q = h.q + t * h.stride;
    float* o = h.o + t * h.stride;
    for (std::int64_t j = 0; j < e; ++j) o[j] = 0;
    for (std::int64_t i = 0; i < d; ++i) {
      const float read = q[i] / Z[i];
      for (std::int64_t j = 0; j < e; ++j) o[j] += read * U[i * e + j];
    }
  }
}

void additive_global_backward(const head& h) {
  const std::int64_t d = h.width, e = h.width;
  const total all{h};
  const float *Z = all.normaliser.data(), *U = all.sum.data();
  std::vector<float> incoming(static_cast<std::size_t>(d * e)), products(static_cast<std::size_t>(d));
  float *G = incoming.data(), *c = products.data();
  for (std::int64_t t = 0; t < h.tokens; ++t) {
    const float *q = h.q + t * h.stride, *do_ = h.do_ + t * h.stride;
    float* dq = h.dq + t * h.stride;
    for (std::int64_t i = 0; i < d; ++i) {
      const float query = q[i];
      float read = 0;
      LIGHTNET_OMP(omp simd reduction(+ : read))
      for (std::int64_t j = 0; j < e; ++j) {
        G[i * e + j] += query * do_[j];
        read += U[i * e + j] * do_[j];
      }
      dq[i] = read / Z[i];
      c[i] += query * dq[i];
    }
  }
  for (std::int64_t t = 0; t < h.tokens; ++t) {
    const float *k = h.k + t * h.stride, *v = h.v + t * h.stride;
    float *dk = h.dk + t * h.stride, *dv = h.dv + t * h.stride;
    for (std::int64_t j = 0; j < e; ++j) dv[j] = 0;
    for (std::int64_t i = 0; i < d; ++i) {
      const float weight = std::exp(k[i]) / Z[i];
      float taken = 0;
      LIGHTNET_OMP(omp simd reduction(+ : taken))
      for (std::int64_t j = 0; j < e; ++j) {
        dv[j] += weight * G[i * e + j];
        taken += G[i * e + j] * v[j];
      }
      dk[i] = weight * (taken - c[i]);
    }
  }
}

void md_lrpe_apply(const head& h) {
  for (std::int64_t t = 0; t < h.tokens; ++t) {
    for (std::int64_t i = 0; i < h.width; ++i) {
      h.o[t * h.stride + i] = h.q[t * h.stride + i] * h.cosine[t * h.width + i];
      h.dq[t * h.stride + i] = h.q[t * h.stride + i] * h.sine[t * h.width + i];
    }
  }
}

void additive_causal_lrpe_forward(const head& h) {
  const std::int64_t d = h.width, e = h.width;
  std::vector<float> normaliser(static_cast<std::size_t>(d)), sum(static_cast<std::size_t>(2 * d * e));
  float *Z = normaliser.data(), *U = sum.data();
  for (std::int64_t t = 0; t < h.tokens; ++t) {
    const float *q = h.q + t * h.stride, *k = h.k + t * h.stride, *v = h.v + t * h.stride;
    const float *cosine = h.cosine + t * d, *sine = h.sine + t * d;
    float* o = h.o + t * h.stride;
    for (std::int64_t j = 0; j < e; ++j) o[j] = 0;
    for (std::int64_t i = 0; i < d; ++i) {
      const float weight = std::exp(k[i]);
      Z[i] += weight;
      const float read = q[i] / Z[i];
      for (std::int64_t half = 0; half < 2; ++half) {
        const float turn = half == 0 ? cosine[i] : sine[i];
        float* row = U + (half * d + i) * e;
        for (std::int64_t j = 0; j < e; ++j) {
          row[j] += weight * turn * v[j];
          o[j] += read * turn * row[j];
        }
      }
    }
  }
}

void additive_global_lrpe_forward(const head& h) {
  const std::int64_t d = h.width, e = h.width;
  std::vector<float> normaliser(static_cast<std::size_t>(d)), sum(static_cast<std::size_t>(2 * d * e));
  float *Z = normaliser.data(), *U = sum.data();
  for (std::int64_t t = 0; t < h.tokens; ++t) {
    const float *k = h.k + t * h.stride, *v = h.v + t * h.stride;
    const float *cosine = h.cosine + t * d, *sine = h.sine + t * d;
    for (std::int64_t i = 0; i < d; ++i) {
      const float weight = std::exp(k[i]);
      Z[i] += weight;
      for (std::int64_t half = 0; half < 2; ++half) {
        const float turned = weight * (half == 0 ? cosine[i] : sine[i]);
        float* row = U + (half * d + i) * e;
        for (std::int64_t j = 0; j < e; ++j) row[j] += turned * v[j];
      }
    }
  }
  for (std::int64_t t = 0; t < h.tokens; ++t) {
    const float* q = h.q + t * h.stride;
    const float *cosine = h.cosine + t * d, *sine = h.sine + t * d;
    float* o = h.o + t * h.stride;
    for (std::int64_t j = 0; j < e; ++j) o[j] = 0;
    for (std::int64_t i = 0; i < d; ++i) {
      for (std::int64_t half = 0; half < 2; ++half) {
        const float read = q[i] / Z[i] * (half == 0 ? cosine[i] : sine[i]);
        const float* row = U + (half * d + i) * e;
        for (std::int64_t j = 0; j < e; ++j) o[j] += read * row[j];
      }
    }
  }
}

}  // namespace bench::plain
