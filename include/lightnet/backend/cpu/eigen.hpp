// SPDX-License-Identifier: Apache-2.0
#pragma once

// Eigen/Core, without the warnings that g++ 12 gives for its own AVX-512 header wherever Eigen inlines it (GCC bug
// 105593): a project that builds with -Wall -Werror -O3 -march=native would stop there.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <Eigen/Core>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
