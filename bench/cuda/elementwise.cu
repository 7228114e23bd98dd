// SPDX-License-Identifier: Apache-2.0

// The element-wise recurrence, every channel by itself; HGRN's is the one with a single head.

#include "cuda/row.cuh"

#include <lightnet/recurrence.hpp>

#include <memory>

namespace bench {
namespace {

template <class T>
void add_elementwise(const std::string& name, const std::string& type, std::int64_t batch, std::int64_t tokens,
                     std::int64_t heads, std::int64_t width) {
  const auto size = static_cast<double>(batch * tokens * heads * width);
  add({name + "/causal/forward/" + type + "/b" + std::to_string(batch) + "/t" + std::to_string(tokens) + "/h" +
           std::to_string(heads) + "/d" + std::to_string(width),
       3 * size * sizeof(T), 2 * size, [=] {
         using numbers = ln::tensor<ln::rank<4>, T, ln::cuda>;
         const auto x = std::make_shared<numbers>(normal<T>(1, batch, tokens, heads, width));
         const auto decay = std::make_shared<numbers>(log_decays<T>(2, batch, tokens, heads, width));
         const auto o = std::make_shared<numbers>(x->view().extents());
         return [x, decay, o](ln::execution<ln::cuda>& on) {
           ln::scan<ln::elementwise, ln::causal, ln::no_position, 1, T>(
               on, {.x = x->view(), .log_decay = decay->view()}, {.o = o->view()});
         };
       }});
}

}  // namespace

void add_elementwise_rows() {
  add_elementwise<float>("elementwise", "float", 1, 65536, 16, 128);
  add_elementwise<ln::bfloat16>("elementwise", "bfloat16", 1, 65536, 16, 128);
  add_elementwise<float>("elementwise", "float", 32, 2048, 16, 128);
  add_elementwise<ln::bfloat16>("elementwise", "bfloat16", 32, 2048, 16, 128);
  add_elementwise<ln::bfloat16>("hgrn", "bfloat16", 1, 65536, 1, 2048);
}

}  // namespace bench
