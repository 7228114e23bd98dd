// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/concepts.hpp>
#include <lightnet/core/math.hpp>
#include <lightnet/layer/linear.hpp>

#include <cmath>

LIGHTNET_BEGIN_NAMESPACE

/// How a layer makes the logits or decays that its recurrence reads for every token. The form follows from what the
/// recurrence declares; y stands for a product with x, of which there are no biases:
/// - logits of their own (additive_gated, additive_plain): y, for each channel or head;
/// - vector decay (GLA, arXiv 2312.06635): log a = log sigmoid(y) / 16 with y = W_2 W_1 x of rank `Rank`;
/// - vector decay that is the key too (HGRN2, arXiv 2404.07904): log a = log sigmoid(y), without a lower bound;
/// - scalar decay (Mamba-2, arXiv 2405.21060): log a = -e^A softplus(y + b), A and b one a head;
/// - with a sign (arXiv 2411.12537): a = 2 sigmoid(y) - 1, y as for the decay without one.
/// A recurrence that reads none has none: keys that are logits, rates [H].
///
/// The first product, [R, rows], is the caller's, who makes all projections of x at once. A and b start inside the ranges
/// that Mamba-2 draws them from, e^A = 16^((h + 1) / H) and softplus(b) = 0.01, so that a head remembers 100 / e^A tokens.
template <class Recurrence, int Width, int Heads, int Rank = 16, class T = float, class Device = cpu>
struct logits_projection {
  static constexpr bool made = Recurrence::logits == logits_from::tokens;
  static constexpr bool decays = made && Recurrence::weight == weight_of::inverse_decay;
  static constexpr bool factored = decays && Recurrence::per_channel && Recurrence::kappa == kappa_of::key;
  static constexpr bool paced = decays && !Recurrence::per_channel && !Recurrence::with_sign;  // by A and b
  static constexpr int count = Recurrence::per_channel ? Width : Heads;  ///< logits or decays of a token
  static constexpr int rows = !made ? 0 : factored ? Rank : count;
  using number = accumulator<T>;
  using second_factor = linear<Rank, Width, false, T, Device>;
  static constexpr std::int64_t parameter_count = factored ? second_factor::parameter_count : paced ? 2 * Heads : 0;
  using parameters = parameters_of<logits_projection, const T, Device>;
  using matrix = dynamic_view<2, T, Device>;
  using const_matrix = dynamic_view<2, const T, Device>;

  /// The name of the first product's weights; as in flash-linear-attention, which has no logits.
  static constexpr const char* product_name() noexcept {
    if (!decays) return "logits_proj";
    if (factored) return "gk_proj.0";
    return Recurrence::per_channel ? "f_proj" : "a_proj";
  }

  /// The parameters beside the weights of the first product.
  void describe(const std::string& prefix, std::int64_t offset, std::vector<parameter>& list, double gain = 0) const {
    if (factored) second_factor{}.describe(prefix + "gk_proj.1.", offset, list, gain);
    if (!paced) return;
    list.push_back({prefix + "A_log", {Heads}, offset, initial_value::ramp(std::log(16.0) / Heads), false});
    list.push_back(
        {prefix + "dt_bias", {Heads}, offset + Heads, initial_value::constant(std::log(std::expm1(0.01))), false});
  }

  /// The logits or decays [R, count], in memory of the scope or in that of the product [R, rows].
  template <class Scope>
  const_matrix forward(execution<Device>& on, Scope& scratch, const parameters& params,
                       const const_matrix& product) const {
    const const_matrix y = before_activation(on, scratch, params, product);
    if constexpr (!decays) {
      return y;
    } else {
      const auto logits = detail::scratch_matrix<T, Device>(scratch, y.extent(0), count);
      if constexpr (paced) {
        detail::map(on, y.extent(0), count, pace{}, logits, y, rates(params), biases(params));
      } else {
        detail::map(on, y.extent(0), count, activate{}, logits, y);
      }
      return logits;
    }
  }

  /// Where the gradient by the logits or decays goes, [R, count], before `backward` takes it from there.
  template <class Scope>
  matrix gradient(Scope& scratch, const matrix& dproduct) const {
    if constexpr (!decays) {
      return dproduct;
    } else {
      return detail::scratch_matrix<T, Device>(scratch, dproduct.extent(0), count);
    }
  }

  /// Pulls the gradient by the logits or decays back: dproduct and dparams are overwritten.
  void backward(execution<Device>& on, const parameters& params, const const_matrix& product, const matrix& dlogits,
                const matrix& dproduct, const parameters_of<logits_projection, T, Device>& dparams) const {
    if constexpr (decays) {
      typename execution<Device>::scope scratch{on};
      const std::int64_t tokens = product.extent(0);
      const const_matrix y = before_activation(on, scratch, params, product);
      if constexpr (paced) {
        detail::map(on, tokens, count, pull_pace{}, dproduct, dlogits, y, rates(params), biases(params));
        detail::reduce_columns(on, tokens, count, dparams.data(), 1, rate_term{}, dlogits, y, rates(params),
                               biases(params));
        detail::reduce_columns(on, tokens, count, dparams.data() + Heads, 1, bias_term{}, dproduct);
      } else if constexpr (factored) {
        const auto dy = detail::scratch_matrix<T, Device>(scratch, tokens, count);
        detail::map(on, tokens, count, pull_activation{}, dy, dlogits, y);
        second_factor{}.backward(on, weights(params), product, dy, dproduct, dparams);
      } else {
        detail::map(on, tokens, count, pull_activation{}, dproduct, dlogits, y);
      }
    }
  }

  // What the backend calls is public, for nvcc makes no kernel of a private type.
  static constexpr number scale = factored ? number(1) / number(16) : number(1);

  struct activate {
    LIGHTNET_HOST_DEVICE void operator()(T& a, const T& y) const noexcept {
      a = static_cast<T>(Recurrence::with_sign ? number(2) * sigmoid<number>(y) - number(1)
                                               : scale * log_sigmoid<number>(y));
    }
  };
  struct pull_activation {
    LIGHTNET_HOST_DEVICE void operator()(T& dy, const T& da, const T& y) const noexcept {
      dy = static_cast<T>(da * sigmoid<number>(-y) * (Recurrence::with_sign ? number(2) * sigmoid<number>(y) : scale));
    }
  };

  // softplus(x) = -log sigmoid(-x)
  struct pace {
    LIGHTNET_HOST_DEVICE void operator()(T& log_a, const T& y, const T& rate, const T& bias) const noexcept {
      log_a = static_cast<T>(exponential<number>(rate) * log_sigmoid<number>(-(y + bias)));
    }
  };
  struct pull_pace {
    LIGHTNET_HOST_DEVICE void operator()(T& dy, const T& dlog_a, const T& y, const T& rate,
                                         const T& bias) const noexcept {
      dy = static_cast<T>(-dlog_a * exponential<number>(rate) * sigmoid<number>(y + bias));
    }
  };
  struct rate_term {
    LIGHTNET_HOST_DEVICE number operator()(const T& dlog_a, const T& y, const T& rate, const T& bias) const noexcept {
      return dlog_a * exponential<number>(rate) * log_sigmoid<number>(-(y + bias));
    }
  };
  struct bias_term {
    LIGHTNET_HOST_DEVICE number operator()(const T& dy) const noexcept { return dy; }
  };

 private:
  template <class Scope>
  static const_matrix before_activation(execution<Device>& on, Scope& scratch, const parameters& params,
                                        const const_matrix& product) {
    if constexpr (factored) {
      const auto y = detail::scratch_matrix<T, Device>(scratch, product.extent(0), count);
      second_factor{}.forward(on, weights(params), product, y);
      return y;
    } else {
      return product;
    }
  }

  static parameters_of<second_factor, const T, Device> weights(const parameters& params) {
    return detail::part_of<second_factor>(params, 0);
  }
  static detail::by_column<const T> rates(const parameters& params) noexcept { return {params.data()}; }
  static detail::by_column<const T> biases(const parameters& params) noexcept { return {params.data() + Heads}; }
};

LIGHTNET_END_NAMESPACE
