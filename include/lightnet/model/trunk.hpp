// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/model/block.hpp>

#include <array>

LIGHTNET_BEGIN_NAMESPACE

/// The part that all models share: Options::layers blocks and a final norm. x, y [B, N, width].
/// Throws device_error or shape_error before anything is written.
template <class Options, int Dims, class T = float, class Device = cpu>
struct trunk {
  static constexpr int width = Options::width, layers = Options::layers;
  static_assert(layers >= 1, "lightnet: a trunk has one layer or more");
  using block_type = block<Options, Dims, T, Device>;
  using norm = rms_norm<width, 1, T, Device>;
  static constexpr double epsilon = Options::norm_epsilon;
  static constexpr std::int64_t norm_at = layers * block_type::parameter_count;
  static constexpr std::int64_t parameter_count = norm_at + norm::parameter_count;

  using parameters = parameters_of<trunk, const T, Device>;
  using gradients = parameters_of<trunk, T, Device>;
  using input = sequence<Dims, const T, Device>;
  using output = sequence<Dims, T, Device>;

  template <class Mode>
  struct context {
    std::array<typename block_type::template context<Mode>, static_cast<std::size_t>(layers)> blocks;
    std::array<kept<Mode, T, Device>, static_cast<std::size_t>(layers)> outputs;  // [B N, width] of each block
  };

  void describe(const std::string& prefix, std::int64_t offset, std::vector<parameter>& list) const {
    for (int i = 0; i < layers; ++i) {
      block_type{}.describe(prefix + "layers." + std::to_string(i) + ".", offset + i * block_type::parameter_count,
                            list);
    }
    norm{}.describe(prefix + "norm.", offset + norm_at, list);
  }

  template <class Mode>
  void forward(execution<Device>& on, const parameters& params, const input& x, const output& y,
               context<Mode>& kept_here) const {
    const std::int64_t batch = x.batch(), tokens = x.tokens.extent(1);
    const detail::layer_checker check{"trunk::forward"};
    check.parameters("params", params);
    check.tokens("x", x, batch, tokens, width);
    check.tokens("y", y, batch, tokens, width);
    typename execution<Device>::scope scratch{on};
    input current = x;
    dynamic_view<2, T, Device> next;
    for (std::size_t i = 0; i < layers; ++i) {
      // Without a backward call to come, one matrix serves all blocks.
      if (i == 0 || std::is_same_v<Mode, train>) next = kept_here.outputs[i].take(scratch, batch * tokens, width);
      block_type{}.forward(on, block_part(params, i), current, x.with_rows(next), kept_here.blocks[i]);
      current = x.with_rows(dynamic_view<2, const T, Device>{next});
    }
    norm{epsilon}.forward(on, detail::part_of<norm>(params, norm_at), current.rows(), y.rows());
  }

  /// dx is overwritten or added to; dparams is overwritten.
  template <write Write = write::overwrite>
  void backward(execution<Device>& on, const parameters& params, const input& x, const input& dy, const output& dx,
                const gradients& dparams, const context<train>& kept_here) const {
    const std::int64_t batch = x.batch(), tokens = x.tokens.extent(1);
    const detail::layer_checker check{"trunk::backward"};
    check.parameters("params", params);
    check.tokens("x", x, batch, tokens, width);
    check.tokens("dy", dy, batch, tokens, width);
    check.tokens("dx", dx, batch, tokens, width);
    check.parameters("dparams", dparams);
    for (const auto& output_of_block : kept_here.outputs) {
      check.context(output_of_block.view(), batch * tokens, width);
    }
    typename execution<Device>::scope scratch{on};
    const auto d = detail::scratch_matrix<T, Device>(scratch, batch * tokens, width);
    const input incoming = x.with_rows(dynamic_view<2, const T, Device>{d});
    const auto input_of = [&](std::size_t i) { return i == 0 ? x : x.with_rows(kept_here.outputs[i - 1].view()); };
    norm{epsilon}.backward(on, detail::part_of<norm>(params, norm_at), input_of(layers).rows(), dy.rows(), d,
                           detail::part_of<norm>(dparams, norm_at));
    for (std::size_t i = layers; i-- > 1;) {
      block_type{}.backward(on, block_part(params, i), input_of(i), incoming, x.with_rows(d), block_part(dparams, i),
                            kept_here.blocks[i]);
    }
    block_type{}.template backward<Write>(on, block_part(params, 0), x, incoming, dx, block_part(dparams, 0),
                                          kept_here.blocks[0]);
  }

 private:
  template <class Shape, class U>
  static parameters_of<block_type, U, Device> block_part(const view<Shape, U, Device>& params, std::size_t i) {
    return detail::part_of<block_type>(params, static_cast<std::int64_t>(i) * block_type::parameter_count);
  }
};

LIGHTNET_END_NAMESPACE
