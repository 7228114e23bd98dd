// SPDX-License-Identifier: Apache-2.0
// States on the GPU: what a new one holds, merging in place and apart, and from logarithms and back, as on the CPU.
#include <lightnet/recurrence/additive.hpp>
#include <lightnet/recurrence/additive_plain.hpp>
#include <lightnet/recurrence/constant_decay.hpp>
#include <lightnet/recurrence/convert_state.hpp>
#include <lightnet/recurrence/merge_states.hpp>
#include <lightnet/recurrence/vector_decay.hpp>

#include "../layer/device_numbers.cuh"

namespace {

namespace ln = lightnet;
using ln::cpu, ln::cuda;
using numbers::list, numbers::outcomes;

constexpr std::int64_t batch = 2, heads = 3, keys = 5, values = 37;

template <class T, class View>
list<T> read(const View& from) {
  using number = std::remove_const_t<typename View::element_type>;
  list<number> all(static_cast<std::size_t>(from.size()));
  if (!all.empty()) View::device_type::copy(all.data(), from.data(), all.size() * sizeof(number));
  return numbers::cast<T>(all);
}
template <class View>
void fill(const View& to, std::uint64_t seed, double scale, double shift) {
  using number = typename View::element_type;
  const list<number> all = numbers::cast<number>(numbers::normal(to.size(), seed, scale, shift));
  View::device_type::copy(to.data(), all.data(), all.size() * sizeof(number));
}

template <class Recurrence, class T, class Device>
void fill_state(ln::state_tensors<Recurrence, T, Device>& state, std::uint64_t seed) {
  const auto views = state.view();
  fill(views.sum, seed, 1, 0);
  if constexpr (Recurrence::framed) {
    fill(views.exponent, seed + 1, 9, 3);
    fill(views.normaliser, seed + 2, 0.1, 1);
    if (views.input) fill(views.input, seed + 3, 1, 0);
  } else {
    fill(views.decay, seed + 1, 0.1, 0.5);
  }
}

template <class Recurrence, class T, class Device>
outcomes<T> state_of(const ln::state_tensors<Recurrence, T, Device>& state) {
  const auto views = state.view();
  if constexpr (Recurrence::framed) {
    return {{"sum", read<T>(views.sum)},
            {"exponent", read<T>(views.exponent)},
            {"normaliser", read<T>(views.normaliser)},
            {"input", read<T>(views.input)}};
  } else {
    return {{"sum", read<T>(views.sum)}, {"decay", read<T>(views.decay)}};
  }
}

enum class into { another, left, right };

template <class Recurrence, class T, class Device>
outcomes<T> merged(into where, std::int64_t stored) {
  using state = ln::state_tensors<Recurrence, T, Device>;
  ln::execution<Device> on;
  state left(batch, heads, keys, stored, values), right(left), another(left);
  fill_state(left, 1);
  fill_state(right, 11);
  state& to = where == into::another ? another : (where == into::left ? left : right);
  ln::merge_states<Recurrence, T>(on, std::as_const(left).view(), std::as_const(right).view(), to.view());
  return state_of(to);
}

template <class T, class Device>
outcomes<T> through_logarithms() {
  ln::execution<Device> on;
  ln::state_tensors<ln::additive, T, Device> state(batch, heads, keys, 2 * keys, values);
  ln::tensor<ln::rank<3>, T, Device> z{{{batch, heads, keys}}}, z_back(z);
  ln::tensor<ln::rank<4>, T, Device> s{{{batch, heads, 2 * keys, values}}}, s_back(s);
  fill(z.view(), 1, 300, 0);
  fill(s.view(), 2, 1, 0);
  const T empty = -std::numeric_limits<T>::infinity();
  Device::copy(z.data() + 7, &empty, sizeof empty);
  ln::state_from_logarithm<T>(on, z.view(), s.view(), state.view());
  ln::logarithm_of_state<T>(on, state.view(), z_back.view(), s_back.view());
  outcomes<T> all = state_of(state);
  list<T> logarithms = read<T>(z_back.view());
  CHECK(logarithms[7] == empty);
  logarithms[7] = T(0);
  all.push_back({"z", logarithms});
  all.push_back({"s", read<T>(s_back.view())});
  return all;
}

}  // namespace

TEST_CASE_TEMPLATE("a new state on the GPU is the CPU's", Recurrence, ln::additive, ln::additive_with_sink,
                   ln::additive_plain, ln::constant_decay, ln::vector_decay) {
  const ln::state_tensors<Recurrence, float, cpu> expected(batch, heads, keys, 2 * keys, values);
  const ln::state_tensors<Recurrence, float, cuda> got(batch, heads, keys, 2 * keys, values);
  numbers::check_same_bits(state_of(got), state_of(expected));
}

TEST_CASE_TEMPLATE("states merge on the GPU as on the CPU, in place and apart", Recurrence, ln::additive,
                   ln::additive_plain, ln::constant_decay, ln::vector_decay) {
  for (const std::int64_t stored : {keys, 2 * keys}) {
    CAPTURE(stored);
    const auto apart = merged<Recurrence, double, cuda>(into::another, stored);
    numbers::check_close(apart, merged<Recurrence, double, cpu>(into::another, stored), 1e-14);
    numbers::check_same_bits(merged<Recurrence, double, cuda>(into::left, stored), apart);
    numbers::check_same_bits(merged<Recurrence, double, cuda>(into::right, stored), apart);
    numbers::check_close(merged<Recurrence, float, cuda>(into::left, stored),
                         merged<Recurrence, float, cpu>(into::left, stored), 1e-6);
  }
}

TEST_CASE("states go through logarithms and back on the GPU as on the CPU") {
  numbers::check_close(through_logarithms<double, cuda>(), through_logarithms<double, cpu>(), 1e-14);
  numbers::check_close(through_logarithms<float, cuda>(), through_logarithms<float, cpu>(), 1e-6);
}

TEST_CASE("merging names a state in host memory") {
  ln::execution<cuda> on;
  ln::state_tensors<ln::constant_decay, float, cuda> a(batch, heads, keys, keys, values), b(a), c(a);
  list<float> on_host(static_cast<std::size_t>(batch * heads * keys * values));
  auto wrong = b.view();
  wrong.sum = {on_host.data(), {{batch, heads, keys, values}}};
  CHECK(numbers::message_of<ln::device_error>(
            [&] { ln::merge_states<ln::constant_decay, float>(on, a.view(), wrong, c.view()); }) ==
        "lightnet: merge_states: sum: expected memory of the device that works on it, got memory of another place");
}
