// SPDX-License-Identifier: Apache-2.0

// MD-LRPE by itself, in the shape that the authors' kernel was measured in, and MD-TPE.

#include "cuda/row.cuh"

#include <lightnet/position/encode.hpp>
#include <lightnet/position/md_tpe.hpp>

#include <memory>
#include <utility>

namespace bench {
namespace {

template <class Position, class T>
void add_encoding(const std::string& name, const std::string& type, std::int64_t batch, std::int64_t extent,
                  std::int64_t heads, std::int64_t width) {
  const std::int64_t tokens = extent * extent, wide = Position::width(width);
  const auto rows = static_cast<double>(batch * tokens * heads);
  add({name + "/encode/" + type + "/b" + std::to_string(batch) + "/t" + std::to_string(extent) + "x" +
           std::to_string(extent) + "/h" + std::to_string(heads) + "/d" + std::to_string(width),
       rows * static_cast<double>((width + wide) * static_cast<std::int64_t>(sizeof(T))),
       rows * static_cast<double>(wide), [=] {
         using sequences = ln::tensor<ln::rank<5>, T, ln::cuda>;
         const auto x = std::make_shared<sequences>(normal<T>(1, batch, extent, extent, heads, width));
         const auto y = std::make_shared<sequences>();
         y->resize({{batch, extent, extent, heads, wide}});
         return [x, y](ln::execution<ln::cuda>& on) {
           ln::encode<Position, 2, T>(on, {.x = x->view()}, {.y = y->view()});
         };
       }});
}

template <class T>
void add_toeplitz(const std::string& type, std::int64_t batch, std::int64_t extent) {
  constexpr int width = 1024, modes = 16;
  using encoding = ln::md_tpe<width, modes, false, 2, T, ln::cuda>;
  const auto size = static_cast<double>(batch * extent * extent * width);
  add({"md_tpe/forward/" + type + "/b" + std::to_string(batch) + "/t" + std::to_string(extent) + "x" +
           std::to_string(extent) + "/width" + std::to_string(width) + "/modes" + std::to_string(modes),
       2 * size * sizeof(T),
       2 * 4 * modes * size,
       [=] {  // a step and a gain, of each mode and axis
         using tokens = ln::tensor<ln::rank<4>, T, ln::cuda>;
         const auto x = std::make_shared<tokens>(normal<T>(1, batch, extent, extent, std::int64_t{width}));
         const auto y = std::make_shared<tokens>(x->view().extents());
         const auto parameters = std::make_shared<ln::parameter_block<T, ln::cuda>>(drawn_parameters<T>(encoding{}));
         return [=](ln::execution<ln::cuda>& on) {
           encoding{}.forward(on, std::as_const(*parameters).for_layer(encoding{}), std::as_const(*x).view(),
                              y->view());
         };
       },
       {multiply_adds::work, multiply_adds::prepare}});
}

}  // namespace

void add_position_rows() {
  add_encoding<ln::md_lrpe, float>("md_lrpe", "float", 8, 64, 16, 128);
  add_encoding<ln::md_lrpe, ln::bfloat16>("md_lrpe", "bfloat16", 8, 64, 16, 128);
  add_encoding<ln::md_lrpe_rotate, float>("md_lrpe_rotate", "float", 8, 64, 16, 128);
  add_encoding<ln::md_lrpe_rotate, ln::bfloat16>("md_lrpe_rotate", "bfloat16", 8, 64, 16, 128);
  add_toeplitz<ln::bfloat16>("bfloat16", 8, 64);
}

}  // namespace bench
