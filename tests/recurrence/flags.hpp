// SPDX-License-Identifier: Apache-2.0
// The floating point flags of all threads that a call may have used.
#pragma once

#include <cfenv>

namespace cases {

// Clears the flags of a team of threads, or says whether one of them has raised an overflow, an invalid operation or a
// division by zero since. A team of as many threads as before is made of the same ones.
inline void clear_flags(int threads) {
#if defined(_OPENMP)
#pragma omp parallel num_threads(threads)
#endif
  std::feclearexcept(FE_ALL_EXCEPT);
  (void)threads;
}
inline bool flags_raised(int threads) {
  int raised = 0;
#if defined(_OPENMP)
#pragma omp parallel num_threads(threads) reduction(| : raised)
#endif
  raised = raised | std::fetestexcept(FE_OVERFLOW | FE_INVALID | FE_DIVBYZERO);
  (void)threads;
  return raised != 0;
}

}  // namespace cases
