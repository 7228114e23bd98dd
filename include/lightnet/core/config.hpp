// SPDX-License-Identifier: Apache-2.0
#pragma once

// Version, inline namespace and the few compiler switches of the library. Includes nothing.

#define LIGHTNET_VERSION_MAJOR 0
#define LIGHTNET_VERSION_MINOR 1
#define LIGHTNET_VERSION_PATCH 0
/// One number that orders versions: major * 10000 + minor * 100 + patch.
#define LIGHTNET_VERSION (LIGHTNET_VERSION_MAJOR * 10000 + LIGHTNET_VERSION_MINOR * 100 + LIGHTNET_VERSION_PATCH)

#if (defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)) && \
    !defined(LIGHTNET_ALLOW_FAST_MATH)
#error \
    "lightnet promises results for NaN and infinity, which -ffast-math and -ffinite-math-only break. \
Compile without them, or define LIGHTNET_ALLOW_FAST_MATH and lose these promises."
#endif

// Two translation units compiled for different instruction sets must not share a function: the linker keeps one
// copy, and the other unit would run it. So the inline namespace spells the version and what changes the code.
#if defined(__AVX512F__)
#define LIGHTNET_ISA_VECTOR avx512
#elif defined(__AVX2__)
#define LIGHTNET_ISA_VECTOR avx2
#elif defined(__AVX__)
#define LIGHTNET_ISA_VECTOR avx
#elif defined(__SSE4_2__)
#define LIGHTNET_ISA_VECTOR sse4
#else
#define LIGHTNET_ISA_VECTOR base
#endif
#if defined(__AVX512FP16__)
#define LIGHTNET_ISA_EXTRA _fp16
#elif defined(__AVX512BF16__)
#define LIGHTNET_ISA_EXTRA _bf16
#elif defined(__AVX512VBMI2__)
#define LIGHTNET_ISA_EXTRA _vbmi2
#elif defined(__AVX512VL__)
#define LIGHTNET_ISA_EXTRA _vl
#else
#define LIGHTNET_ISA_EXTRA
#endif
#if defined(__FAST_MATH__) && defined(__FMA__)
#define LIGHTNET_ISA_FMA _fma_fast
#elif defined(__FAST_MATH__)
#define LIGHTNET_ISA_FMA _fast
#elif defined(__FMA__)
#define LIGHTNET_ISA_FMA _fma
#else
#define LIGHTNET_ISA_FMA
#endif
#if defined(_OPENMP)
#define LIGHTNET_ISA_THREADS _omp
#else
#define LIGHTNET_ISA_THREADS
#endif

#if defined(LIGHTNET_SM90A)
#define LIGHTNET_ISA_DEVICE _sm90a
#else
#define LIGHTNET_ISA_DEVICE
#endif

#define LIGHTNET_JOIN_EXPANDED(a, b, c, d, e, f, g) v##a##_##b##_##c##d##e##f##g
#define LIGHTNET_JOIN(a, b, c, d, e, f, g) LIGHTNET_JOIN_EXPANDED(a, b, c, d, e, f, g)
#define LIGHTNET_INLINE_NAMESPACE                                                                        \
  LIGHTNET_JOIN(LIGHTNET_VERSION_MAJOR, LIGHTNET_VERSION_MINOR, LIGHTNET_ISA_VECTOR, LIGHTNET_ISA_EXTRA, \
                LIGHTNET_ISA_FMA, LIGHTNET_ISA_THREADS, LIGHTNET_ISA_DEVICE)

#define LIGHTNET_BEGIN_NAMESPACE \
  namespace lightnet {           \
  inline namespace LIGHTNET_INLINE_NAMESPACE {
#define LIGHTNET_END_NAMESPACE \
  }                            \
  }

#if defined(__CUDACC__)
#define LIGHTNET_HOST_DEVICE __host__ __device__
#else
#define LIGHTNET_HOST_DEVICE
#endif

// The CUDA backend is there where the target lightnet::cuda is linked, in what nvcc compiles; nothing else sees it.
#if defined(LIGHTNET_CUDA) && defined(__CUDACC__)
#define LIGHTNET_HAS_CUDA 1
#endif

// Before a loop of up to 32 rounds whose variables must stay in registers. Clang unrolls such loops by itself; in host
// code, nvcc knows neither pragma.
#if defined(__CUDA_ARCH__)
#define LIGHTNET_UNROLL _Pragma("unroll")
#elif defined(__GNUC__) && !defined(__clang__) && !defined(__CUDACC__)
#define LIGHTNET_UNROLL _Pragma("GCC unroll 32")
#else
#define LIGHTNET_UNROLL
#endif

// Before a loop whose body is large and seldom entered: a GPU's compiler would repeat it.
#if defined(__CUDA_ARCH__)
#define LIGHTNET_DO_NOT_UNROLL _Pragma("unroll 1")
#else
#define LIGHTNET_DO_NOT_UNROLL
#endif

// A pragma that only exists where OpenMP does: a build without -fopenmp sees nothing and warns of nothing.
#if defined(_OPENMP)
#define LIGHTNET_OMP(directive) _Pragma(#directive)
#else
#define LIGHTNET_OMP(directive)
#endif
