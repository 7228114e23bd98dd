// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/activation.hpp>
#include <lightnet/core/sequence.hpp>
#include <lightnet/layer/gate.hpp>
#include <lightnet/layer/linear.hpp>
#include <lightnet/layer/logits_projection.hpp>
#include <lightnet/recurrence/additive.hpp>
#include <lightnet/recurrence/scan_next.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {
/// Whether an encoding of `keys` channels has an angle for each of `dims` axes.
template <class Position>
constexpr bool gives_angles(std::int64_t keys, std::int64_t dims) noexcept {
  if constexpr (Position::encodes) {
    return Position::fits(keys, dims);
  } else {
    return true;
  }
}
}  // namespace detail

/// What an attention layer may choose; derive from it and name what differs.
struct attention_options {
  static constexpr int width = 64;
  static constexpr int heads = 2;
  static constexpr int layers = 1;           ///< of the whole model: scales the initial output weights
  static constexpr double initial_gain = 0;  ///< of the initial weights, see initial_value::weights
  static constexpr int gate_rank = 0;        ///< of the gate's two factors; 0 takes the width of a head
  static constexpr int decay_rank = 16;      ///< of the two factors of a vector decay
  static constexpr bool norm_per_head = false;
  static constexpr double norm_epsilon = 1e-5;    ///< what norms add to mean squares
  static constexpr double gate_norm_epsilon = 0;  ///< the same for the norm of the gate; 0 takes norm_epsilon
  static constexpr gate_form gate = gate_form::norm_then_gate;
  static constexpr bool learned_theta = false;   ///< whether the angles of the position encoding are parameters
  static constexpr bool theta_per_head = false;  ///< and whether every head has its own
  using recurrence = additive;
  using traversal = global;
  using position = no_position;
};

/// LightNet attention, LNA (arXiv 2405.21022): with q = silu(W_q x), k = W_k x, v = W_v x, u = W_u2 W_u1 x,
///   y = W_o (norm and gate of recurrence(q, k, v) with u).
/// A recurrence that reads logits or decays of its own gets those that logits_projection makes of x, and one whose key is
/// 1 - a has no W_k. x, y [B, N, width] at the places of a grid. No biases. Names as in flash-linear-attention. A masked
/// token comes out as 0 and gives no gradient; its values are to be finite. In decode, which is for causal, tokens come after
/// those of the calls before, in memory that does not grow. Throws device_error, shape_error or, for prefix tokens that the
/// traversal has no place for, value_error before anything is written.
template <class Options, int Dims, class T = float, class Device = cpu>
struct attention {
  static constexpr int width = Options::width, heads = Options::heads, head_width = width / heads;
  static constexpr double gate_epsilon =
      Options::gate_norm_epsilon > 0 ? Options::gate_norm_epsilon : Options::norm_epsilon;
  static constexpr int rank_of_gate = Options::gate_rank > 0 ? Options::gate_rank : head_width;
  using recurrence = typename Options::recurrence;
  using traversal = typename Options::traversal;
  using position = typename Options::position;
  static_assert(width % heads == 0, "lightnet: the heads of attention must divide its width");
  static_assert(!Options::learned_theta || position::encodes,
                "lightnet: learned_theta needs a position encoding with angles, such as md_lrpe");
  static_assert(detail::gives_angles<position>(head_width, Dims),
                "lightnet: a head is too narrow to give every axis an angle; use fewer heads or more width");

  using number = accumulator<T>;
  using own_logits = logits_projection<recurrence, width, heads, Options::decay_rank, T, Device>;
  // Projected side by side: q, k where there is one, v, the first factor of the gate, what logits are made of.
  static constexpr bool keyed = recurrence::kappa != kappa_of::complement;
  static constexpr int v_column = keyed ? 2 * width : width, gate_column = v_column + width;
  static constexpr int logits_column = gate_column + rank_of_gate, projected = logits_column + own_logits::rows;
  using input_projection = linear<width, projected, false, T, Device>;
  using gate_projection = linear<rank_of_gate, width, false, T, Device>;
  using output_projection = linear<width, width, false, T, Device>;
  using output_gate = norm_gate<Options::gate, width, Options::norm_per_head ? heads : 1, T, Device>;

  static constexpr std::int64_t theta_rows = Options::learned_theta ? (Options::theta_per_head ? heads : 1) : 0;
  static constexpr std::int64_t gate_at = input_projection::parameter_count;
  static constexpr std::int64_t norm_at = gate_at + gate_projection::parameter_count;
  static constexpr std::int64_t output_at = norm_at + output_gate::parameter_count;
  static constexpr std::int64_t theta_at = output_at + output_projection::parameter_count;
  /// The angles of one axis.
  static constexpr std::int64_t share() noexcept {
    if constexpr (position::encodes) {
      return position::share(head_width, Dims);
    } else {
      return 0;
    }
  }
  static constexpr std::int64_t logits_at = theta_at + theta_rows * share();
  static constexpr std::int64_t parameter_count = logits_at + own_logits::parameter_count;

  using parameters = parameters_of<attention, const T, Device>;
  using gradients = parameters_of<attention, T, Device>;
  using input = sequence<Dims, const T, Device>;
  using output = sequence<Dims, T, Device>;

  template <class Mode>
  struct context {
    kept<Mode, T, Device> projections;  // [B N, projected]
    kept<Mode, T, Device> read;         // [B N, width]: what the recurrence gave
    carried<Mode, state_tensors<recurrence, T, Device>> past;
  };

  void describe(const std::string& prefix, std::int64_t offset, std::vector<parameter>& list) const {
    const initial_value normal = initial_value::weights(width, Options::initial_gain);
    const auto stacked = [&](const char* name, std::int64_t first, std::int64_t rows) {
      list.push_back({prefix + name + ".weight", {rows, width}, offset + first * width, normal, true});
    };
    stacked("q_proj", 0, width);
    if (keyed) stacked("k_proj", width, width);
    stacked("v_proj", v_column, width);
    stacked("g_proj.0", gate_column, rank_of_gate);
    if (own_logits::made) stacked(own_logits::product_name(), logits_column, own_logits::rows);
    gate_projection{}.describe(prefix + "g_proj.1.", offset + gate_at, list, Options::initial_gain);
    output_gate{}.describe(prefix + "g_norm.", offset + norm_at, list);
    output_projection{}.describe(prefix + "o_proj.", offset + output_at, list, Options::initial_gain,
                                 1 / std::sqrt(2.0 * Options::layers));
    if (theta_rows > 0) {
      list.push_back(
          {prefix + "theta", {theta_rows, share()}, offset + theta_at, initial_value::powers(log_theta_step()), false});
    }
    own_logits{}.describe(prefix, offset + logits_at, list, Options::initial_gain);
  }

  template <class Mode>
  void forward(execution<Device>& on, const parameters& params, const input& x, const output& y,
               context<Mode>& kept_here) const {
    const detail::layer_checker check{"attention::forward"};
    check.tokens("x", x, x.batch(), x.tokens.extent(1), width);
    forward_of(on, params, x, x.rows(), y, {}, kept_here);
  }

  /// The same for tokens that may be yet to be made, such as rms_norm::rows, at the places of x, whose tokens are not read;
  /// `sum` [B N, width], where given, is added to y.
  template <class Rows, class Mode>
  void forward_of(execution<Device>& on, const parameters& params, const input& x, const Rows& rows_of_x,
                  const output& y, const detail::plus_matrix<T, Device>& sum, context<Mode>& kept_here) const {
    const std::int64_t batch = x.batch(), tokens = x.tokens.extent(1), rows = batch * tokens;
    const detail::layer_checker check{"attention::forward"};
    check.parameters("params", params);
    check.tokens("y", y, batch, tokens, width);
    check_prefix(check, x);
    typename execution<Device>::scope scratch{on};
    const auto projections = kept_here.projections.take(scratch, rows, projected);
    const auto q = detail::scratch_matrix<T, Device>(scratch, rows, width);
    const auto o = kept_here.read.take(scratch, rows, width);
    const auto u = detail::scratch_matrix<T, Device>(scratch, rows, width);
    input_projection{}.forward_of(on, part<input_projection>(params, 0), rows_of_x, projections,
                                  detail::then_map<1>(activate{}, q));
    const auto inputs = recurrence_inputs(on, scratch, params, x, q, projections);
    if constexpr (std::is_same_v<Mode, decode>) {
      static_assert(std::is_same_v<traversal, causal>,
                    "lightnet: tokens that are yet to come are unknown in decode; use the traversal causal");
      scan_next<recurrence, position, Dims, T>(on, inputs, in_heads(x, o), kept_here.past.state);
    } else {
      scan<recurrence, traversal, position, Dims, T>(on, inputs, {.o = in_heads(x, o)});
    }
    gate_projection{}.forward(on, part<gate_projection>(params, gate_at), first_gate(projections), u);
    const auto gated = output_gate{gate_epsilon}.rows(on, part<typename output_gate::norm>(params, norm_at), o, u, q);
    output_projection{}.forward_of(on, part<output_projection>(params, output_at), gated, y.rows(), sum);
  }

  /// dx is overwritten or added to; dparams is overwritten.
  template <write Write = write::overwrite>
  void backward(execution<Device>& on, const parameters& params, const input& x, const input& dy, const output& dx,
                const gradients& dparams, const context<train>& kept_here) const {
    const std::int64_t batch = x.batch(), tokens = x.tokens.extent(1), rows = batch * tokens;
    const auto projections = kept_here.projections.view();
    const auto o = kept_here.read.view();
    const detail::layer_checker check{"attention::backward"};
    check.parameters("params", params);
    check.tokens("x", x, batch, tokens, width);
    check.tokens("dy", dy, batch, tokens, width);
    check.tokens("dx", dx, batch, tokens, width);
    check.parameters("dparams", dparams);
    check.context(projections, rows, projected);
    check.context(o, rows, width);
    check_prefix(check, x);
    typename execution<Device>::scope scratch{on};
    const auto matrix = [&](std::int64_t count) { return detail::scratch_matrix<T, Device>(scratch, rows, count); };
    const auto dprojections = matrix(projected);
    const auto q = matrix(width), u = matrix(width), gated = matrix(width), dgated = matrix(width);

    gate_projection{}.forward(on, part<gate_projection>(params, gate_at), first_gate(projections), u);
    output_gate{gate_epsilon}.forward(on, part<typename output_gate::norm>(params, norm_at), o, u, gated);
    output_projection{}.backward(on, part<output_projection>(params, output_at), gated, dy.rows(), dgated,
                                 part<output_projection>(dparams, output_at));
    const auto d_o = gated, du = matrix(width);
    output_gate{gate_epsilon}.backward(on, part<typename output_gate::norm>(params, norm_at), o, u, dgated, d_o, du,
                                       part<typename output_gate::norm>(dparams, norm_at));
    gate_projection{}.backward(on, part<gate_projection>(params, gate_at), first_gate(projections), du,
                               columns(dprojections, gate_column, rank_of_gate),
                               part<gate_projection>(dparams, gate_at));

    detail::map(on, rows, width, activate{}, q, columns(projections, 0, width));
    const auto product = columns(projections, logits_column, own_logits::rows);
    const auto dproduct = columns(dprojections, logits_column, own_logits::rows);
    const auto dlogits = own_logits{}.gradient(scratch, dproduct);
    scan_gradients<recurrence, Dims, T, Device> to{.q = in_heads(x, dgated),
                                                   .v = in_heads(x, columns(dprojections, v_column, width))};
    if constexpr (keyed) to.k = in_heads(x, columns(dprojections, width, width));
    if constexpr (own_logits::made) logits_of(to) = in_heads(x, dlogits);
    if constexpr (theta_rows > 0) to.theta = in_numbers(scratch, theta_of(dparams));
    scan_backward<recurrence, traversal, position, Dims, T>(
        on, recurrence_inputs(on, scratch, params, x, q, projections), {.o = in_heads(x, d_o)}, to);
    if constexpr (theta_rows > 0 && !std::is_same_v<T, number>) {
      detail::map(on, theta_rows, share(), detail::convert_number{}, theta_of(dparams), to.theta);
    }
    own_logits{}.backward(on, part<own_logits>(params, logits_at), product, dlogits, dproduct,
                          part<own_logits>(dparams, logits_at));
    detail::map(on, rows, width, pull_activation{}, columns(dprojections, 0, width), columns(projections, 0, width),
                dgated);
    input_projection{}.template backward<Write>(on, part<input_projection>(params, 0), x.rows(), dprojections,
                                                dx.rows(), part<input_projection>(dparams, 0));
  }

  // What the backend calls is public, for nvcc makes no kernel of a private type.
  struct activate {
    LIGHTNET_HOST_DEVICE void operator()(T& q, const T& x) const noexcept {
      q = static_cast<T>(detail::silu_for<T>(x));
    }
  };
  struct pull_activation {
    LIGHTNET_HOST_DEVICE void operator()(T& dx, const T& x, const T& dq) const noexcept {
      dx = static_cast<T>(dq * detail::dsilu_for<T>(x));
    }
  };

 private:
  /// The logarithm of the ratio of neighbouring theta, which are a geometric row that starts with 1.
  static double log_theta_step() noexcept {
    if constexpr (position::encodes) {
      return share() > 1 ? std::log(position::theta(1, head_width, Dims)) : 0;
    } else {
      return 0;
    }
  }

  template <class Child, class Shape, class U>
  static parameters_of<Child, U, Device> part(const view<Shape, U, Device>& whole, std::int64_t offset) {
    return detail::part_of<Child>(whole, offset);
  }

  template <class U>
  static dynamic_view<2, U, Device> columns(const dynamic_view<2, U, Device>& rows, std::int64_t first,
                                            std::int64_t count) {
    return rows.slice(1, first, count);
  }
  template <class U>
  static dynamic_view<2, const T, Device> first_gate(const dynamic_view<2, U, Device>& projections) {
    return columns(projections, gate_column, rank_of_gate);
  }

  static void check_prefix(const detail::layer_checker& check, const input& x) {
    if (traversal::along_axes && x.grid.prefix > 0) {
      throw value_error(check.operation, "x.grid.prefix", "zero, for lines along axes go through places",
                        std::to_string(x.grid.prefix));
    }
  }

  /// [B, N, heads, C / heads] of rows [B N, C] with any stride between them.
  template <class U>
  static dynamic_view<4, U, Device> in_heads(const input& x, const dynamic_view<2, U, Device>& rows) {
    const std::int64_t tokens = x.tokens.extent(1), stride = rows.stride(0), channels = rows.extent(1) / heads;
    return {rows.data(), {{x.batch(), tokens, heads, channels}}, {tokens * stride, stride, channels, 1}};
  }

  /// The angles of the position encoding among parameters or gradients.
  template <class Shape, class U>
  static dynamic_view<2, U, Device> theta_of(const view<Shape, U, Device>& whole) {
    return {whole.data() + theta_at, {{theta_rows, share()}}};
  }

  /// Where a matrix is as the recurrence takes it: itself, or memory for its numbers in float.
  template <class Scope, class U>
  static auto in_numbers(Scope& scratch, const dynamic_view<2, U, Device>& m) {
    if constexpr (std::is_same_v<T, number>) {
      return m;
    } else {
      return detail::scratch_matrix<number, Device>(scratch, m.extent(0), m.extent(1));
    }
  }

  /// The member of scan's inputs or gradients that has what the recurrence reads.
  template <class Arguments>
  static auto& logits_of(Arguments& arguments) noexcept {
    if constexpr (!own_logits::decays) {
      return arguments.logits;
    } else if constexpr (recurrence::with_sign) {
      return arguments.decay;
    } else {
      return arguments.log_decay;
    }
  }

  template <class Scope, class U, class V>
  static scan_inputs<recurrence, Dims, T, Device> recurrence_inputs(execution<Device>& on, Scope& scratch,
                                                                    const parameters& params, const input& x,
                                                                    const dynamic_view<2, U, Device>& q,
                                                                    const dynamic_view<2, V, Device>& projections) {
    scan_inputs<recurrence, Dims, T, Device> inputs{.q = in_heads(x, q),
                                                    .v = in_heads(x, columns(projections, v_column, width)),
                                                    .mask = x.mask,
                                                    .grid = x.grid,
                                                    .origin = x.origin};
    if constexpr (keyed) inputs.k = in_heads(x, columns(projections, width, width));
    if constexpr (own_logits::made) {
      logits_of(inputs) = in_heads(x, own_logits{}.forward(on, scratch, part<own_logits>(params, logits_at),
                                                           columns(projections, logits_column, own_logits::rows)));
    }
    if constexpr (theta_rows > 0) {
      const auto theta = in_numbers(scratch, theta_of(params));
      if constexpr (!std::is_same_v<T, number>) {
        detail::map(on, theta_rows, share(), detail::convert_number{}, theta, theta_of(params));
      }
      inputs.theta = theta;
    }
    return inputs;
  }
};

LIGHTNET_END_NAMESPACE
