// SPDX-License-Identifier: Apache-2.0
// The same bits on the GPU however norms, the gated norm and MD-TPE are run; and matrices of more than 2^31 elements.
#include <lightnet/backend/random.hpp>
#include <lightnet/layer/gate.hpp>
#include <lightnet/layer/norm.hpp>
#include <lightnet/position/md_tpe.hpp>

#include "../cuda/memory.cuh"
#include "../cuda/same_bits.cuh"
#include "device_numbers.cuh"

namespace {

namespace ln = lightnet;
using numbers::list;

template <class T>
using device_array = numbers::array<T, ln::cuda>;

template <class T>
device_array<T> normal(std::int64_t count, std::uint64_t seed) {
  return device_array<T>(numbers::cast<T>(numbers::normal(count, seed)));
}
template <class T>
device_array<T> unwritten(std::int64_t count) {
  return device_array<T>(numbers::unwritten<T>(count));
}

constexpr std::int64_t rows = 701;  // several parts of the sums over rows

template <int Width, int Groups>
struct ask_norm {
  using layer = ln::rms_norm<Width, Groups, float, ln::cuda>;
  device_array<float> x = normal<float>(rows * Width, 1), g = normal<float>(Width, 2),
                      dy = normal<float>(rows * Width, 3);
  device_array<float> y = unwritten<float>(rows * Width), dx = unwritten<float>(rows * Width),
                      dg = unwritten<float>(Width);

  same_bits::places written() {
    same_bits::places all;
    same_bits::add_place(all, "y", y.template view<2>({rows, Width}));
    same_bits::add_place(all, "dx", dx.template view<2>({rows, Width}));
    same_bits::add_place(all, "dg", dg.template view<1>({Width}));
    return all;
  }
  void operator()(ln::execution<ln::cuda>& on) {
    layer{}.forward(on, {g.data(), {}}, x.template view<2>({rows, Width}), y.template view<2>({rows, Width}));
    layer{}.backward(on, {g.data(), {}}, x.template view<2>({rows, Width}), dy.template view<2>({rows, Width}),
                     dx.template view<2>({rows, Width}), {dg.data(), {}});
  }
};

template <ln::gate_form Form>
struct ask_gate {
  static constexpr std::int64_t width = 111;
  using layer = ln::norm_gate<Form, width, 3, float, ln::cuda>;
  device_array<float> o = normal<float>(rows * width, 1), u = normal<float>(rows * width, 2);
  device_array<float> g = normal<float>(width, 3), dy = normal<float>(rows * width, 4);
  device_array<float> y = unwritten<float>(rows * width), d_o = unwritten<float>(rows * width),
                      du = unwritten<float>(rows * width), dg = unwritten<float>(width);

  static ln::dynamic_view<2, float, ln::cuda> view(device_array<float>& all) {
    return all.template view<2>({rows, width});
  }
  same_bits::places written() {
    same_bits::places all;
    same_bits::add_place(all, "y", view(y));
    same_bits::add_place(all, "do", view(d_o));
    same_bits::add_place(all, "du", view(du));
    same_bits::add_place(all, "dg", dg.template view<1>({width}));
    return all;
  }
  void operator()(ln::execution<ln::cuda>& on) {
    layer{}.forward(on, {g.data(), {}}, view(o), view(u), view(y));
    layer{}.backward(on, {g.data(), {}}, view(o), view(u), view(dy), view(d_o), view(du), {dg.data(), {}});
  }
};

template <int Dims, class T>
struct ask_md_tpe {
  static constexpr int width = 7, modes = 5;
  static constexpr std::int64_t batch = 3, prefix = 2;
  using layer = ln::md_tpe<width, modes, true, Dims, T, ln::cuda>;
  ln::grid<Dims> where;
  std::int64_t size;
  device_array<T> parameters = normal<T>(layer::parameter_count, 1);
  device_array<T> x, dy, y, dx, dparameters = unwritten<T>(layer::parameter_count);
  ln::tensor<ln::rank<2>, bool, ln::cuda> mask;

  explicit ask_md_tpe(const std::array<std::int64_t, static_cast<std::size_t>(Dims)>& extents)
      : where{extents, prefix, {}},
        size{batch * where.size() * width},
        x{normal<T>(size, 2)},
        dy{normal<T>(size, 3)},
        y{unwritten<T>(size)},
        dx{unwritten<T>(size)},
        mask{numbers::mask_of<ln::cuda>(batch, where.size(), [](std::int64_t i) { return (i * i + 3) % 7 != 0; })} {}

  ln::sequence<Dims, T, ln::cuda> tokens(device_array<T>& all) {
    return {all.template view<3>({batch, where.size(), width}), where, mask.view()};
  }
  same_bits::places written() {
    same_bits::places all;
    same_bits::add_place(all, "y", tokens(y).tokens);
    same_bits::add_place(all, "dx", tokens(dx).tokens);
    same_bits::add_place(all, "dparameters", dparameters.template view<1>({layer::parameter_count}));
    return all;
  }
  void operator()(ln::execution<ln::cuda>& on) {
    layer{}.forward(on, {parameters.data(), {}}, tokens(x), tokens(y));
    layer{}.backward(on, {parameters.data(), {}}, tokens(x), tokens(dy), tokens(dx), {dparameters.data(), {}});
  }
};

}  // namespace

TEST_CASE("cuda bits: norms, a row to a warp and to a block, and in groups") {
  same_bits::check<ask_norm<37, 1>>();
  same_bits::check<ask_norm<1111, 1>>();
  same_bits::check<ask_norm<111, 3>>();
}

TEST_CASE("cuda bits: the gated norm in both forms") {
  same_bits::check<ask_gate<ln::gate_form::norm_then_gate>>();
  same_bits::check<ask_gate<ln::gate_form::gate_then_norm>>();
}

TEST_CASE("cuda bits: MD-TPE along one axis in several parts, and along two") {
  same_bits::check<ask_md_tpe<1, float>>(std::array<std::int64_t, 1>{601});
  same_bits::check<ask_md_tpe<2, ln::bfloat16>>(std::array<std::int64_t, 2>{23, 37});
}

TEST_CASE("large: a norm of more than 2^31 elements gives its last rows the bits that they have alone") {
  constexpr std::int64_t width = 67, count = (std::int64_t{1} << 31) / width + 1001, last = 1003;
  static_assert(count * width > std::int64_t{1} << 31);
  if (!memory::is_free(2 * count * width * 4)) return;
  using layer = ln::rms_norm<width, 1, float, ln::cuda>;
  using matrix = ln::tensor<ln::rank<2>, float, ln::cuda>;
  ln::execution<ln::cuda> on;
  device_array<float> g = normal<float>(width, 2), dg = unwritten<float>(width);
  matrix x{{{count, width}}}, y{{{count, width}}}, alone{{{last, width}}};
  ln::fill_normal(on, ln::random_stream{7}, 0, ln::dynamic_view<1, float, ln::cuda>{x.data(), {{x.size()}}});
  const auto end = [](matrix& all) { return all.view().slice(0, count - last, last); };
  layer{}.forward(on, {g.data(), {}}, x.view(), y.view());
  layer{}.forward(on, {g.data(), {}}, end(x), alone.view());
  CHECK(memory::same(on, end(y).data(), alone.data(), last * width));
  // The gradient, from x as what comes back, over y.
  layer{}.backward(on, {g.data(), {}}, x.view(), x.view(), y.view(), {dg.data(), {}});
  layer{}.backward(on, {g.data(), {}}, end(x), end(x), alone.view(), {dg.data(), {}});
  CHECK(memory::same(on, end(y).data(), alone.data(), last * width));
}

TEST_CASE("large: MD-TPE of more than 2^31 elements gives its last sequence the bits that it has alone") {
  constexpr int width = 61;
  constexpr std::int64_t batch = 1031, tokens = 34147;
  static_assert(batch * tokens * width > std::int64_t{1} << 31);
  constexpr std::int64_t parts = (tokens + 255) / 256, size = batch * tokens * width;
  if (!memory::is_free(2 * size * 2 + batch * parts * width * 2 * 4)) return;
  using layer = ln::md_tpe<width, 2, false, 1, ln::bfloat16, ln::cuda>;
  using sequence = ln::tensor<ln::rank<3>, ln::bfloat16, ln::cuda>;
  ln::execution<ln::cuda> on;
  device_array<ln::bfloat16> parameters = normal<ln::bfloat16>(layer::parameter_count, 3);
  sequence x{{{batch, tokens, width}}}, y{{{batch, tokens, width}}}, alone{{{1, tokens, width}}};
  ln::fill_normal(on, ln::random_stream{8}, 0, ln::dynamic_view<1, ln::bfloat16, ln::cuda>{x.data(), {{x.size()}}});
  const auto end = [](sequence& all) -> ln::dynamic_view<3, ln::bfloat16, ln::cuda> {
    return all.view().slice(0, batch - 1, 1);
  };
  const auto of =
      [](const ln::dynamic_view<3, ln::bfloat16, ln::cuda>& all) -> ln::sequence<1, ln::bfloat16, ln::cuda> {
    return {all, {{tokens}, 0, {}}};
  };
  layer{}.forward(on, {parameters.data(), {}}, of(x.view()), of(y.view()));
  layer{}.forward(on, {parameters.data(), {}}, of(end(x)), of(alone.view()));
  CHECK(memory::same(on, end(y).data(), alone.data(), alone.size()));
}
