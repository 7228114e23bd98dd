// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/angles.hpp>
#include <lightnet/backend/encode.hpp>
#include <lightnet/core/concepts.hpp>
#include <lightnet/core/error.hpp>
#include <lightnet/core/located.hpp>
#include <lightnet/core/reach.hpp>
#include <lightnet/position/md_lrpe.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// The inputs of encode; x is needed.
template <int Dims = 1, class T = float, class Device = cpu>
struct encode_inputs {
  head_sequence<Dims, const T, Device> x{};               // [B, n_1..n_M, H, d]
  dynamic_view<2, const accumulator<T>, Device> theta{};  // [1 or H, share]
  lightnet::grid<Dims> grid{};                            // where x is flattened; an offset
};

/// The output of encode.
template <int Dims = 1, class T = float, class Device = cpu>
struct encode_outputs {
  head_sequence<Dims, T, Device> y{};  // [B, n_1..n_M, H, d']
};

/// y = the position encoding of x by itself, for attention that is none of this library's: inside scan the encoding
/// needs no memory for y. x [B, n_1..n_M, H, d], or with the grid flattened, [B, N, H, d]; y the same with d' channels; any
/// strides. y must not overlap x. Throws shape_error, value_error or device_error before anything is written.
template <class Position, int Dims = 1, class T = float, class Device>
void encode(execution<Device>& on, const encode_inputs<Dims, T, std::type_identity_t<Device>>& inputs,
            const encode_outputs<Dims, T, std::type_identity_t<Device>>& outputs) {
  static_assert(Position::encodes, "lightnet: encode needs a position encoding with angles, such as md_lrpe");
  if constexpr (Position::encodes) {
    using A = accumulator<T>;
    constexpr const char* operation = "encode";
    const auto& [x, theta, where] = inputs;
    const auto& y = outputs.y;
    const auto given = [&](const char* argument, const auto& views) {
      if (!views) throw device_error(operation, argument, "a view of memory", "a null pointer");
      detail::check_reach(operation, argument, views);
    };
    given("x", x);
    given("y", y);
    const grid<Dims> tokens = detail::located(operation, "x", x, where);
    const std::int64_t keys = x.channels();
    if (!Position::fits(keys, Dims)) {
      throw shape_error(operation, "x", "enough channels to give each of " + std::to_string(Dims) + " axes an angle",
                        x.describe());
    }
    const bool same_axes = Dims == 1 || !y.gridded() || (tokens.prefix == 0 && y.extents() == tokens.extents);
    if (y.batch() != x.batch() || y.tokens() != x.tokens() || y.heads() != x.heads() ||
        y.channels() != Position::width(keys) || !same_axes) {
      throw shape_error(operation, "y",
                        "the batch, tokens and heads of x " + x.describe() + " and " +
                            std::to_string(Position::width(keys)) + " channels",
                        y.describe());
    }
    if (y.repeats())
      throw shape_error(operation, "y", "a place for each element", y.describe() + " with a stride of 0");
    const std::int64_t share = Position::share(keys, Dims);
    if (theta) {
      detail::check_reach(operation, "theta", theta);
      if (theta.extent(1) != share || (theta.extent(0) != 1 && theta.extent(0) != x.heads())) {
        throw shape_error(operation, "theta",
                          "extents [1 or " + std::to_string(x.heads()) + ", " + std::to_string(share) + "]",
                          theta.describe());
      }
    }
    typename execution<Device>::scope scratch{on};
    const rank<3> shape{{theta ? theta.extent(0) : 1, tokens.size(), Position::angles(keys, Dims)}};
    const dynamic_view<3, A, Device> cosine{scratch.template take<A>(shape.size()), shape};
    const dynamic_view<3, A, Device> sine{scratch.template take<A>(shape.size()), shape};
    detail::encode_angles<Position, Dims, A>(on, tokens, keys, theta, cosine, sine, {});
    detail::encode_sequence<Position, Dims, T>(on, x, y, cosine, sine);
  }
}

LIGHTNET_END_NAMESPACE
