// SPDX-License-Identifier: Apache-2.0
// MD-TPE as the tests call it: questions and answers in double, whatever the layer computes in.
#pragma once

#include <lightnet/position/md_tpe.hpp>

#include <algorithm>
#include <memory>

#include "../layer/numbers.hpp"
#include "../oracle/position.hpp"

namespace tpe {

namespace ln = lightnet;
using numbers::list;

// A layer and its question, of the given extents and choices; `masked` puts NaN under the mask.
template <int Width, int Modes, bool BothWays, int Dims, class T>
struct question {
  using layer = ln::md_tpe<Width, Modes, BothWays, Dims, T>;

  oracle::tpe_problem p;
  ln::grid<Dims> where;
  std::unique_ptr<bool[]> keep;
  int threads = 1;

  question(const std::array<std::int64_t, static_cast<std::size_t>(Dims)>& extents, std::int64_t batch,
           std::int64_t prefix, bool masked, std::uint64_t seed = 1)
      : where{extents, prefix, {}} {
    const std::int64_t tokens = where.size();
    p = {.where = {{extents.begin(), extents.end()}, prefix, {}}, .batch = batch, .width = Width, .modes = Modes};
    p.x = rounded(numbers::normal(batch * tokens * Width, seed));
    p.gamma = rounded(numbers::normal(Dims * Modes, seed + 1, 1, -2));
    p.b = rounded(numbers::normal(Dims * Width * Modes, seed + 2));
    p.both_directions = BothWays;
    if (!masked) return;
    keep = std::make_unique<bool[]>(static_cast<std::size_t>(batch * tokens));
    for (std::int64_t i = 0; i < batch * tokens; ++i) {
      const bool on = (i * i + 3) % 7 != 0;
      keep[static_cast<std::size_t>(i)] = on;
      p.mask.push_back(on ? 1 : 0);
      for (std::int64_t c = 0; c < Width && !on; ++c)
        p.x[static_cast<std::size_t>(i * Width + c)] = numbers::not_a_number;
    }
  }

  std::int64_t tokens() const { return where.size(); }

  list<T> parameters() const {
    list<T> all = numbers::cast<T>(p.gamma);
    const list<T> b = numbers::cast<T>(p.b);
    all.insert(all.end(), b.begin(), b.end());
    return all;
  }

  // [B, N, Width] as the layer takes it.
  template <class U>
  ln::sequence<Dims, U> tokens_of(U* data) const {
    ln::dynamic_view<2, const bool> mask;
    if (keep) mask = {keep.get(), {{p.batch, tokens()}}};
    return {{data, {{p.batch, tokens(), Width}}}, where, mask};
  }

  list<T> forward() const {
    ln::execution<ln::cpu> on(threads);
    const list<T> x = numbers::cast<T>(p.x), all = parameters();
    list<T> y = numbers::unwritten<T>(p.batch * tokens() * Width);
    layer{}.forward(on, {all.data(), {}}, tokens_of(x.data()), tokens_of(y.data()));
    return y;
  }

  struct gradients {
    list<T> x, parameters;
  };
  template <ln::write Write = ln::write::overwrite>
  gradients backward(const list<double>& dy, const list<T>& start = {}) const {
    ln::execution<ln::cpu> on(threads);
    const list<T> x = numbers::cast<T>(p.x), incoming = numbers::cast<T>(dy), all = parameters();
    gradients d{start, numbers::unwritten<T>(layer::parameter_count)};
    if (start.empty()) d.x = numbers::unwritten<T>(p.batch * tokens() * Width);
    layer{}.template backward<Write>(on, {all.data(), {}}, tokens_of(x.data()), tokens_of(incoming.data()),
                                     tokens_of(d.x.data()), {d.parameters.data(), {}});
    return d;
  }

  // One sequence of the batch alone.
  question alone(std::int64_t b) const {
    question one(where.extents, 1, where.prefix, false);
    const auto part = [&](const list<double>& from, std::int64_t size) {
      return list<double>(from.begin() + b * size, from.begin() + (b + 1) * size);
    };
    one.p.x = part(p.x, tokens() * Width);
    one.p.gamma = p.gamma;
    one.p.b = p.b;
    if (keep) {
      one.keep = std::make_unique<bool[]>(static_cast<std::size_t>(tokens()));
      std::copy_n(keep.get() + b * tokens(), tokens(), one.keep.get());
      one.p.mask = part(p.mask, tokens());
    }
    return one;
  }

 private:
  static list<double> rounded(const list<double>& x) { return numbers::cast<double>(numbers::cast<T>(x)); }
};

}  // namespace tpe
