// SPDX-License-Identifier: Apache-2.0
#pragma once

/// What the machine can do at most, each as one short run. A shared machine changes its pace from one millisecond to
/// the next, so the caller takes several runs, in between of what it compares with them, and the best of them.
namespace bench {

/// Floating-point operations a second of one thread, two for each multiply-add of floats.
double fma_rate();

/// The same of Eigen's matrix product.
double sgemm_rate();

/// Bytes a second, read and written, of `threads` threads that together copy arrays of `bytes` bytes, the copies
/// included; at least 32 MiB, which is far more than an L2 cache holds, and at most 128 MiB.
double copy_rate(int threads, double bytes);

/// Bytes a second of `threads` threads that together read so many bytes once, at least 128 MiB, at most 1 GiB.
double read_rate(int threads, double bytes);

}  // namespace bench
