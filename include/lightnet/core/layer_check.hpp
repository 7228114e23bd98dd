// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/reach.hpp>
#include <lightnet/core/sequence.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Checks the arguments of a layer before the call touches anything: device_error for one that is missing or in
/// memory of another device, shape_error for one that does not fit, each with the operation and the argument.
struct layer_checker {
  const char* operation;

  /// Parameters or their gradients: dense.
  template <class Shape, class U, class Device>
  void parameters(const char* argument, const view<Shape, U, Device>& params) const {
    if (!params) missing(argument);
    if (!params.contiguous()) misfit(argument, "dense parameters", params.describe());
    check_reach(operation, argument, params);
  }

  /// A matrix [rows, columns] whose rows are dense.
  template <class U, class Device>
  void matrix(const char* argument, const dynamic_view<2, U, Device>& m, std::int64_t rows,
              std::int64_t columns) const {
    const std::array<std::int64_t, 2> expected{rows, columns};
    if (!m && m.extents() != expected) missing(argument);
    if (m.extents() != expected || (m.stride(1) != 1 && columns > 1)) {
      misfit(argument, bracketed(expected) + " with dense rows", m.describe());
    }
    if (!m && m.size() > 0) missing(argument);
    check_reach(operation, argument, m);
  }

  /// The same without room between the rows.
  template <class U, class Device>
  void dense_matrix(const char* argument, const dynamic_view<2, U, Device>& m, std::int64_t rows,
                    std::int64_t columns) const {
    matrix(argument, m, rows, columns);
    if (!m.contiguous()) misfit(argument, "a dense matrix", m.describe());
  }

  /// A number for each of `count` items.
  template <class U, class Device>
  void numbers(const char* argument, const dynamic_view<1, U, Device>& m, std::int64_t count) const {
    const std::array<std::int64_t, 1> expected{count};
    if (!m && (m.extents() != expected || count > 0)) missing(argument);
    if (m.extents() != expected) misfit(argument, bracketed(expected), m.describe());
    check_reach(operation, argument, m);
  }

  /// The tokens of a sequence, [B, N, width].
  template <int Dims, class U, class Device>
  void tokens(const char* argument, const sequence<Dims, U, Device>& s, std::int64_t batch, std::int64_t count,
              std::int64_t width) const {
    const std::array<std::int64_t, 3> expected{batch, count, width};
    if (!s.tokens && s.tokens.extents() != expected) missing(argument);
    if (s.tokens.extents() != expected) misfit(argument, bracketed(expected), s.tokens.describe());
    if (!s.tokens && s.tokens.size() > 0) missing(argument);
    check_reach(operation, argument, s.tokens);
    if (s.mask) check_reach(operation, std::string{argument} + ".mask", s.mask);
  }

  /// What the forward call kept.
  template <class U, class Device>
  void context(const dynamic_view<2, U, Device>& kept, std::int64_t rows, std::int64_t columns) const {
    const std::array<std::int64_t, 2> expected{rows, columns};
    if (kept.extents() != expected) {
      misfit("context", "what forward keeps for x, " + bracketed(expected), bracketed(kept.extents()));
    }
  }

 private:
  [[noreturn]] void missing(const char* argument) const {
    throw device_error(operation, argument, "a view of memory", "a null pointer");
  }
  [[noreturn]] void misfit(const char* argument, const std::string& expected, const std::string& came) const {
    throw shape_error(operation, argument, expected, came);
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
