// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/execution.hpp>

#include <atomic>
#include <thread>
#include <type_traits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Calls `body(item, thread)` for every item of [0, count). Which thread takes which item is open, so a body writes
/// only what belongs to its item; it must not throw.
template <class Body>
void parallel_for(const execution<cpu>& on, std::int64_t count, const Body& body) {
#if defined(_OPENMP)
  // Inside a region that already gave its threads one each, there is nothing to share out.
  if (on.threads() == 1 && omp_in_parallel() && omp_get_max_threads() == 1) {
    for (std::int64_t item = 0; item < count; ++item) body(item, 0);
    return;
  }
  const int team = static_cast<int>(count < on.threads() ? (count > 0 ? count : 1) : on.threads());
  // A team of one is a region too: in it, as in the others, a library called from a body opens no threads of its own.
#pragma omp parallel num_threads(team)
  {
    omp_set_num_threads(1);
    const int thread = omp_get_thread_num();
#pragma omp for schedule(dynamic)
    for (std::int64_t item = 0; item < count; ++item) body(item, thread);
  }
#else
  static_cast<void>(on);
  for (std::int64_t item = 0; item < count; ++item) body(item, 0);
#endif
}

/// Calls `body(thread, threads)` on several threads at the same time: they may wait for each other. There may be fewer than
/// `on` has; a body must not throw.
template <class Body>
void parallel_team(const execution<cpu>& on, const Body& body) {
#if defined(_OPENMP)
#pragma omp parallel num_threads(on.threads())
  {
    omp_set_num_threads(1);  // as in parallel_for
    body(omp_get_thread_num(), omp_get_num_threads());
  }
#else
  static_cast<void>(on);
  body(0, 1);
#endif
}

/// One Object a thread, in the workspace: its constructor gets `arguments` and the scope, and takes scratch of its own.
template <class Object, class Arguments>
Object* make_each(const execution<cpu>& on, execution<cpu>::scope& scratch, const Arguments& arguments) {
  static_assert(std::is_trivially_destructible_v<Object>, "objects of the workspace are not destroyed");
  Object* const objects = scratch.take<Object>(on.threads());
  for (int thread = 0; thread < on.threads(); ++thread) ::new (objects + thread) Object(arguments, scratch);
  return objects;
}

/// The part of [0, count) that block `index` of fixed size `block` covers.
struct block_range {
  std::int64_t first, last;
  constexpr block_range(std::int64_t index, std::int64_t block, std::int64_t count)
      : first{index * block}, last{first + block < count ? first + block : count} {}
  static constexpr std::int64_t blocks(std::int64_t block, std::int64_t count) { return (count + block - 1) / block; }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
