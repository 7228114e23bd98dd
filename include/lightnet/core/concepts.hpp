// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/config.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>

// Every contract of the library in one file. Policies are plain types; entry points use these concepts as traits inside
// a static_assert with a sentence, never as bare constraints.

LIGHTNET_BEGIN_NAMESPACE

/// A device: where memory comes from. `execution<Device>` and the primitives of backend/ belong to it.
template <class D>
concept device = requires(void* memory, std::size_t bytes) {
  { D::allocate(bytes) } -> std::same_as<void*>;
  D::deallocate(memory);
  D::copy(memory, memory, bytes);
  D::clear(memory, bytes);
};

/// A monoid: an element, an identity, an associative product, and whether the order of its factors matters.
template <class M>
concept monoid = requires(typename M::element a) {
  { M::identity() } -> std::same_as<typename M::element>;
  { M::combine(a, a) } -> std::same_as<typename M::element>;
  { M::commutative } -> std::convertible_to<bool>;
};

// Every recurrence with a matrix state is the one sum
//
//   S_t = (1 / Z_t) sum_{s <= t} w_s kappa_s v_s^T,    o_t = S_t^T q_t,
//
// with a weight w and a normaliser Z for each channel of the key, or one for all channels of a head. A policy declares
// what they are, and the backends do the rest: chunks, exact frames, threads, gradients. These are the words it declares
// it in.

/// Where the logits come from that make the weights.
enum class logits_from {
  keys,    ///< the key is its own logit, one a channel; kappa = 1
  tokens,  ///< numbers of their own for every token, [B, n_1..n_M, H, d or 1]
  head,    ///< one number a head, the same for every token, [H]
  none     ///< all logits are 0
};

/// How a logit becomes a weight.
enum class weight_of {
  exponential,   ///< w_t = e^(logit_t)
  running_sum,   ///< w_t = Z_t, the sum of e^(logit) so far: the input enters plain
  inverse_decay  ///< w_t = 1 / (a_1 ... a_t), the logits being log a, or, where the decay is signed, a itself
};

/// What divides the sum.
enum class normaliser_of {
  sum,    ///< Z_t = sum_{s <= t} e^(logit_s), which may start from an initial Z_0
  weight  ///< Z_t = w_t: a decay
};

/// What a token's value is multiplied by beside its weight.
enum class kappa_of {
  one,        ///< nothing
  key,        ///< the key
  complement  ///< 1 - a, for a decay a: the token takes the place of what decays
};

/// A recurrence with a matrix state.
template <class R>
concept matrix_recurrence =
    monoid<typename R::template monoid<float>> && R::framed == (R::normaliser == normaliser_of::sum) && requires {
  typename R::template state<float, struct cpu>;
  { R::commutative } -> std::convertible_to<bool>;  // the order of tokens does not matter to the state
  { R::framed } -> std::convertible_to<bool>;       // the state is (m, Z, U), not S
  { R::sink } -> std::convertible_to<bool>;         // Z_0 = 1 where no state is given
  { R::per_channel } -> std::convertible_to<bool>;  // weights differ between the channels of a key
  { R::with_sign } -> std::convertible_to<bool>;    // decays in [-1, 1] arrive as they are, not as logarithms
  { R::kappa } -> std::convertible_to<kappa_of>;
  { R::logits } -> std::convertible_to<logits_from>;
  { R::weight } -> std::convertible_to<weight_of>;
  { R::normaliser } -> std::convertible_to<normaliser_of>;
};

/// A recurrence whose state is a vector: h_t = a_t h_{t-1} + x_t, channel by channel.
template <class R>
concept elementwise_recurrence = monoid<typename R::template monoid<float>> && requires {
  requires R::elementwise;
  typename R::template state<float, struct cpu>;
  { R::with_sign } -> std::convertible_to<bool>;
};

/// Either.
template <class R>
concept recurrence = matrix_recurrence<R> || elementwise_recurrence<R>;

/// A traversal: which tokens each token sees.
template <class V>
concept traversal = requires {
  { V::ordered } -> std::convertible_to<bool>;     // tokens are seen in an order
  { V::stateful } -> std::convertible_to<bool>;    // takes and gives a state
  { V::scans(1) } -> std::convertible_to<int>;     // passes over data of so many dimensions
  { V::along_axes } -> std::convertible_to<bool>;  // a pass walks the lines of one axis, the other axes batched
};

/// A position encoding inside the recurrence.
template <class P>
concept position = requires(std::int64_t keys) {
  { P::encodes } -> std::convertible_to<bool>;              // false: queries and weights pass unchanged
  { P::mixes_channels } -> std::convertible_to<bool>;       // rows of the state belong to several channels of the key
  { P::width(keys) } -> std::convertible_to<std::int64_t>;  // d'
};

/// A layer: an immutable value whose parameters are `parameter_count` numbers of a flat block, described by name.
template <class L>
concept layer = requires {
  { L::parameter_count } -> std::convertible_to<std::int64_t>;
};

LIGHTNET_END_NAMESPACE
