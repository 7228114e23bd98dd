// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/model/attention.hpp>
#include <lightnet/model/glu.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// What a block may choose beside its attention.
struct block_options : attention_options {
  static constexpr int inner = 0;  ///< inner width of the GLU; 0 takes default_inner_width(width)
};

/// A LightNet block (arXiv 2405.21022): x += LNA(norm(x)); x += GLU(norm(x)). x, y [B, N, width]; y may be x. Throws
/// device_error or shape_error before anything is written.
template <class Options, int Dims, class T = float, class Device = cpu>
struct block {
  static constexpr int width = Options::width;
  static constexpr int inner = Options::inner > 0 ? Options::inner : default_inner_width(width);
  using norm = rms_norm<width, 1, T, Device>;
  static constexpr double epsilon = Options::norm_epsilon;
  using token_mixer = attention<Options, Dims, T, Device>;
  using channel_mixer = glu<width, inner, Options::layers, T, Device>;
  static constexpr std::int64_t token_mixer_at = norm::parameter_count;
  static constexpr std::int64_t second_norm_at = token_mixer_at + token_mixer::parameter_count;
  static constexpr std::int64_t channel_mixer_at = second_norm_at + norm::parameter_count;
  static constexpr std::int64_t parameter_count = channel_mixer_at + channel_mixer::parameter_count;

  using parameters = parameters_of<block, const T, Device>;
  using gradients = parameters_of<block, T, Device>;
  using input = sequence<Dims, const T, Device>;
  using output = sequence<Dims, T, Device>;

  template <class Mode>
  struct context {
    typename token_mixer::template context<Mode> tokens;
    typename channel_mixer::template context<Mode> channels;
    kept<Mode, T, Device> middle;  // [B N, width]: x + LNA(norm(x))
  };

  void describe(const std::string& prefix, std::int64_t offset, std::vector<parameter>& list) const {
    norm{}.describe(prefix + "attn_norm.", offset, list);
    token_mixer{}.describe(prefix + "attn.", offset + token_mixer_at, list);
    norm{}.describe(prefix + "mlp_norm.", offset + second_norm_at, list);
    channel_mixer{}.describe(prefix + "mlp.", offset + channel_mixer_at, list, Options::initial_gain);
  }

  template <class Mode>
  void forward(execution<Device>& on, const parameters& params, const input& x, const output& y,
               context<Mode>& kept_here) const {
    const std::int64_t batch = x.batch(), tokens = x.tokens.extent(1), rows = batch * tokens;
    const detail::layer_checker check{"block::forward"};
    check.parameters("params", params);
    check.tokens("x", x, batch, tokens, width);
    check.tokens("y", y, batch, tokens, width);
    typename execution<Device>::scope scratch{on};
    const auto normed = detail::scratch_matrix<T, Device>(scratch, rows, width);
    const auto middle = kept_here.middle.take(scratch, rows, width);
    const auto at = x.with_rows(constant(normed));
    const auto first = norm{epsilon}.rows(detail::part_of<norm>(params, 0), x.rows(), normed);
    const auto mix_tokens = [&](const auto& from, const detail::plus_matrix<T, Device>& sum) {
      token_mixer{}.forward_of(on, detail::part_of<token_mixer>(params, token_mixer_at), at, from, x.with_rows(middle),
                               sum, kept_here.tokens);
    };
    const auto mix_channels = [&](const auto& from, const detail::plus_matrix<T, Device>& sum) {
      channel_mixer{}.forward_of(on, detail::part_of<channel_mixer>(params, channel_mixer_at), from, y.rows(), sum,
                                 kept_here.channels);
    };
    const auto second = detail::part_of<norm>(params, second_norm_at);
    if (detail::products_do_more(on, rows)) {
      mix_tokens(first, {x.rows()});
      mix_channels(norm{epsilon}.rows(second, middle, normed), {middle});
    } else {
      mix_tokens(first, {});
      norm{epsilon}.forward_of_sum(on, second, x.rows(), middle, normed);
      mix_channels(normed, {middle});
    }
  }

  /// dx is overwritten, and then dy may be dx, or added to; dparams is overwritten.
  template <write Write = write::overwrite>
  void backward(execution<Device>& on, const parameters& params, const input& x, const input& dy, const output& dx,
                const gradients& dparams, const context<train>& kept_here) const {
    const std::int64_t batch = x.batch(), tokens = x.tokens.extent(1), rows = batch * tokens;
    const detail::layer_checker check{"block::backward"};
    check.parameters("params", params);
    check.tokens("x", x, batch, tokens, width);
    check.tokens("dy", dy, batch, tokens, width);
    check.tokens("dx", dx, batch, tokens, width);
    check.parameters("dparams", dparams);
    check.context(kept_here.middle.view(), rows, width);
    typename execution<Device>::scope scratch{on};
    const auto normed = detail::scratch_matrix<T, Device>(scratch, rows, width);
    const auto dnormed = detail::scratch_matrix<T, Device>(scratch, rows, width);
    const auto dmiddle = detail::scratch_matrix<T, Device>(scratch, rows, width);
    const auto middle = kept_here.middle.view();

    norm{epsilon}.forward(on, detail::part_of<norm>(params, second_norm_at), middle, normed);
    channel_mixer{}.backward(on, detail::part_of<channel_mixer>(params, channel_mixer_at), normed, dy.rows(), dnormed,
                             detail::part_of<channel_mixer>(dparams, channel_mixer_at), kept_here.channels);
    detail::map(on, rows, width, copy{}, dmiddle, dy.rows());
    norm{epsilon}.template backward<write::add>(on, detail::part_of<norm>(params, second_norm_at), middle, dnormed,
                                                dmiddle, detail::part_of<norm>(dparams, second_norm_at));

    norm{epsilon}.forward(on, detail::part_of<norm>(params, 0), x.rows(), normed);
    token_mixer{}.backward(on, detail::part_of<token_mixer>(params, token_mixer_at), x.with_rows(constant(normed)),
                           x.with_rows(constant(dmiddle)), x.with_rows(dnormed),
                           detail::part_of<token_mixer>(dparams, token_mixer_at), kept_here.tokens);
    if constexpr (Write == write::add) {
      detail::map(on, rows, width, detail::add_number{}, dx.rows(), constant(dmiddle));
    } else {
      detail::map(on, rows, width, copy{}, dx.rows(), constant(dmiddle));
    }
    norm{epsilon}.template backward<write::add>(on, detail::part_of<norm>(params, 0), x.rows(), dnormed, dx.rows(),
                                                detail::part_of<norm>(dparams, 0));
  }

  // What the backend calls is public, for nvcc makes no kernel of a private type.
  struct copy {
    LIGHTNET_HOST_DEVICE void operator()(T& to, const T& x) const noexcept { to = x; }
  };

 private:
  static dynamic_view<2, const T, Device> constant(const dynamic_view<2, T, Device>& rows) { return rows; }
};

LIGHTNET_END_NAMESPACE
