// SPDX-License-Identifier: Apache-2.0
// The models in plain double, put together from the oracles: what each function computes is the formula of its layer.
#pragma once

#include <lightnet/model/language_model.hpp>
#include <lightnet/model/segmenter.hpp>
#include <lightnet/recurrence.hpp>

#include <cmath>
#include <string>
#include <type_traits>
#include <utility>

#include "../layer/numbers.hpp"
#include "../oracle/model.hpp"
#include "../oracle/position.hpp"
#include "../oracle/recurrence.hpp"

namespace reference {

namespace ln = lightnet;
using numbers::list;
using parameter_block = ln::parameter_block<double>;

struct places {
  oracle::grid where = {};
  std::int64_t batch = 1;
  list<double> mask = {};
};

inline list<double> values(const parameter_block& all, const std::string& name) {
  const auto part = all[name];
  return {part.data(), part.data() + part.size()};
}

// What the oracles call a recurrence of the library.
template <oracle::recurrence Kind>
struct formula_of {
  static constexpr oracle::recurrence kind = Kind;
  static constexpr bool per_head = false, with_sign = false, sink = false;
  static double rate(double h, double heads) { return -std::exp2(-8 * h / heads); }  // log lambda_h, h from 1
};
template <class Recurrence>
struct formula;
template <>
struct formula<ln::additive> : formula_of<oracle::recurrence::additive> {};
template <>
struct formula<ln::additive_with_sink> : formula<ln::additive> {
  static constexpr bool sink = true;
};
template <>
struct formula<ln::additive_gated> : formula_of<oracle::recurrence::additive_gated> {};
template <>
struct formula<ln::additive_gated_per_head> : formula<ln::additive_gated> {
  static constexpr bool per_head = true;
};
template <>
struct formula<ln::additive_plain> : formula_of<oracle::recurrence::additive_plain> {};
template <>
struct formula<ln::additive_plain_per_head> : formula<ln::additive_plain> {
  static constexpr bool per_head = true;
};
template <>
struct formula<ln::no_decay> : formula_of<oracle::recurrence::no_decay> {};
template <>
struct formula<ln::constant_decay> : formula_of<oracle::recurrence::constant_decay> {};
template <>
struct formula<ln::scalar_decay> : formula_of<oracle::recurrence::scalar_decay> {};
template <>
struct formula<ln::vector_decay> : formula_of<oracle::recurrence::vector_decay> {};
template <>
struct formula<ln::hgrn2> : formula_of<oracle::recurrence::hgrn2> {};
template <class Decay>
struct formula<ln::signed_decay<Decay>> : formula<Decay> {
  static constexpr bool with_sign = true;
};

template <class Traversal>
constexpr oracle::traversal order_of = std::is_same_v<Traversal, ln::global>          ? oracle::traversal::global
                                       : std::is_same_v<Traversal, ln::bidirectional> ? oracle::traversal::bidirectional
                                       : std::is_same_v<Traversal, ln::axial>         ? oracle::traversal::axial
                                                                                      : oracle::traversal::causal;

// The logits or decays that attention makes of x, where the recurrence reads some.
template <class Options, class Project>
void make_logits(oracle::problem& p, const parameter_block& all, const std::string& prefix, const Project& project) {
  using kinds = oracle::recurrence;
  using rule = formula<typename Options::recurrence>;
  const auto log_sigmoid = [](double y) { return -std::log1p(std::exp(-y)); };
  const auto decays = [&](list<double> y, double scale) {
    for (double& a : y) a = rule::with_sign ? 2 * oracle::sigmoid(a) - 1 : scale * log_sigmoid(a);
    return y;
  };
  if (p.has_logits()) p.logits = project("logits_proj", Options::width);
  if (p.kind == kinds::hgrn2) p.log_decay = decays(project("f_proj", Options::width), 1);
  if (p.kind == kinds::vector_decay) {
    const list<double> inner = project("gk_proj.0", Options::width);
    p.log_decay =
        decays(oracle::linear(inner, values(all, prefix + "gk_proj.1.weight"), Options::decay_rank), 1.0 / 16);
  }
  if (p.kind == kinds::scalar_decay) {
    p.log_decay = project("a_proj", Options::width);
    if (rule::with_sign) {
      p.log_decay = decays(p.log_decay, 1);
    } else {
      const list<double> rate = values(all, prefix + "A_log"), bias = values(all, prefix + "dt_bias");
      for (std::size_t i = 0; i < p.log_decay.size(); ++i) {
        const std::size_t h = i % rate.size();
        p.log_decay[i] = -std::exp(rate[h]) * std::log1p(std::exp(p.log_decay[i] + bias[h]));
      }
    }
  }
  for (int h = 0; h < Options::heads && p.kind == kinds::constant_decay; ++h) {
    const double rate = rule::rate(h + 1, Options::heads);
    p.log_decay.push_back(rule::with_sign ? std::exp(rate) : rate);
  }
}

template <class Position>
constexpr oracle::encoding encoding_of = oracle::encoding::none;
template <>
inline constexpr oracle::encoding encoding_of<ln::md_lrpe> = oracle::encoding::cosine;
template <>
inline constexpr oracle::encoding encoding_of<ln::md_lrpe_rotate> = oracle::encoding::rotate_halves;

template <class Options>
list<double> attention(const parameter_block& all, const std::string& prefix, const list<double>& x, const places& at) {
  using rule = formula<typename Options::recurrence>;
  constexpr std::size_t width = Options::width, heads = Options::heads;
  const auto project = [&](const char* name, const list<double>& from, std::size_t in) {
    return oracle::linear(from, values(all, prefix + name + ".weight"), in);
  };
  oracle::problem p{.kind = rule::kind,
                    .order = order_of<typename Options::traversal>,
                    .position = encoding_of<typename Options::position>,
                    .per_head = rule::per_head,
                    .with_sign = rule::with_sign,
                    .batch = at.batch,
                    .tokens = at.where.tokens(),
                    .heads = heads,
                    .keys = width / heads,
                    .values = width / heads,
                    .q = oracle::silu(project("q_proj", x, width)),
                    .v = project("v_proj", x, width),
                    .mask = at.mask,
                    .extents = at.where.extents};
  if (p.kind != oracle::recurrence::hgrn2) p.k = project("k_proj", x, width);
  if (rule::sink) p.z0.assign(static_cast<std::size_t>(p.batch * p.heads * p.weights()), 0.0);
  make_logits<Options>(p, all, prefix, [&](const char* name, std::size_t in) { return project(name, x, in); });
  std::vector<long double> theta;
  if constexpr (Options::learned_theta) {
    for (const double angle : values(all, prefix + "theta")) theta.push_back(angle);
  }
  p.angles = oracle::lrpe_angles(at.where, p.position, p.heads, p.keys, theta);
  const list<double> o = oracle::naive_recurrence(p).o;
  const std::size_t rank = Options::gate_rank > 0 ? Options::gate_rank : width / heads;
  const list<double> u = project("g_proj.1", project("g_proj.0", x, width), rank);
  const list<double> weight = values(all, prefix + "g_norm.weight");
  const std::size_t part = Options::norm_per_head ? width / heads : width;
  const double epsilon = Options::gate_norm_epsilon > 0 ? Options::gate_norm_epsilon : Options::norm_epsilon;
  const list<double> gated = Options::gate == ln::gate_form::norm_then_gate
                                 ? oracle::norm_then_gate(o, u, part, weight, epsilon)
                                 : oracle::gate_then_norm(o, u, part, weight, epsilon);
  return project("o_proj", gated, width);
}

inline list<double> glu(const parameter_block& all, const std::string& prefix, const list<double>& x,
                        std::size_t width) {
  return oracle::glu(x, values(all, prefix + "gate_proj.weight"), values(all, prefix + "up_proj.weight"),
                     values(all, prefix + "down_proj.weight"), width);
}

template <class Options>
list<double> block(const parameter_block& all, const std::string& prefix, const list<double>& x, const places& at) {
  constexpr std::size_t width = Options::width;
  const auto norm = [&](const char* name, const list<double>& from) {
    return oracle::rms_norm(from, width, values(all, prefix + name + ".weight"), Options::norm_epsilon);
  };
  const list<double> middle = oracle::add(x, attention<Options>(all, prefix + "attn.", norm("attn_norm", x), at));
  return oracle::add(middle, glu(all, prefix + "mlp.", norm("mlp_norm", middle), width));
}

template <class Options>
list<double> trunk(const parameter_block& all, const std::string& prefix, list<double> x, const places& at) {
  for (int i = 0; i < Options::layers; ++i) {
    x = block<Options>(all, prefix + "layers." + std::to_string(i) + ".", x, at);
  }
  return oracle::rms_norm(x, Options::width, values(all, prefix + "norm.weight"), Options::norm_epsilon);
}

// The place of every number of images [B, extents..., channels] in their patches [B, N, Side^M channels].
inline std::vector<std::size_t> places_in_patches(std::int64_t batch, const std::vector<std::int64_t>& extents,
                                                  std::int64_t side, std::int64_t channels) {
  std::int64_t cells = 1, inside = channels;
  for (const std::int64_t n : extents) {
    cells *= n / side;
    inside *= side;
  }
  std::vector<std::size_t> places(static_cast<std::size_t>(batch * cells * inside));
  for (std::size_t i = 0; i < places.size(); ++i) {
    std::int64_t rest = static_cast<std::int64_t>(i) / channels, row = 0, column = 0, row_step = 1;
    std::int64_t column_step = channels;
    for (std::size_t axis = extents.size(); axis-- > 0; rest /= extents[axis]) {
      const std::int64_t place = rest % extents[axis];
      row += place / side * row_step;
      column += place % side * column_step;
      row_step *= extents[axis] / side;
      column_step *= side;
    }
    places[i] =
        static_cast<std::size_t>((rest * cells + row) * inside + column) + i % static_cast<std::size_t>(channels);
  }
  return places;
}

// images [B, extents..., channels] to what the trunk reads [B, N, width]; `at` becomes the places of the patches.
template <class Options>
list<double> encoded_patches(const parameter_block& all, const list<double>& images,
                             const std::vector<std::int64_t>& extents, places& at) {
  for (const std::int64_t n : extents) at.where.extents.push_back(n / Options::patch);
  const auto to = places_in_patches(at.batch, extents, Options::patch, Options::channels);
  list<double> cut(images.size());
  for (std::size_t i = 0; i < images.size(); ++i) cut[to[i]] = images[i];
  const std::size_t inside = cut.size() / static_cast<std::size_t>(at.batch * at.where.tokens());
  const oracle::tpe_problem tpe{
      .where = at.where,
      .batch = at.batch,
      .width = Options::width,
      .modes = Options::modes,
      .x = oracle::linear(cut, values(all, "embedding.weight"), inside, values(all, "embedding.bias")),
      .gamma = values(all, "tpe.gamma"),
      .b = values(all, "tpe.b")};
  return oracle::md_tpe(tpe).y;
}

// images [B, extents..., channels] to features [B, N, width]
template <class Options>
list<double> patch_trunk(const parameter_block& all, const list<double>& images, std::int64_t batch,
                         const std::vector<std::int64_t>& extents) {
  places at{.batch = batch};
  const list<double> encoded = encoded_patches<Options>(all, images, extents, at);
  return trunk<Options>(all, "", encoded, at);
}

// images [B, extents..., channels] to logits [B, classes]
template <class Options>
list<double> image_classifier(const parameter_block& all, const list<double>& images, std::int64_t batch,
                              const std::vector<std::int64_t>& extents) {
  constexpr std::size_t width = Options::width;
  const list<double> features = patch_trunk<Options>(all, images, batch, extents);
  const std::size_t cells = features.size() / (width * static_cast<std::size_t>(batch));
  list<double> pooled(static_cast<std::size_t>(batch) * width);
  for (std::size_t i = 0; i < features.size(); ++i) {
    pooled[i / (width * cells) * width + i % width] += features[i] / static_cast<double>(cells);
  }
  return oracle::linear(pooled, values(all, "head.weight"), width, values(all, "head.bias"));
}

// tokens [B, N]; logits [B N, vocabulary]
template <class Options>
list<double> language_model(const parameter_block& all, const list<std::int32_t>& tokens, std::int64_t batch) {
  const list<double> table = values(all, "embeddings.weight");
  places at{.batch = batch};
  at.where.extents.push_back(static_cast<std::int64_t>(tokens.size()) / batch);
  list<double> x;
  for (const std::int32_t token : tokens) {
    const auto row = table.begin() + std::ptrdiff_t{token} * Options::width;
    x.insert(x.end(), row, row + Options::width);
  }
  if constexpr (Options::modes > 0) {
    oracle::tpe_problem tpe{.where = at.where, .batch = batch, .width = Options::width, .modes = Options::modes};
    tpe.both_directions = Options::both_ways;
    tpe.x = x;
    tpe.gamma = values(all, "tpe.gamma");
    tpe.b = values(all, "tpe.b");
    x = oracle::md_tpe(tpe).y;
  }
  return oracle::linear(trunk<Options>(all, "", x, at), Options::tied_head ? table : values(all, "lm_head.weight"),
                        Options::width);
}

// images [B, extents..., channels] to logits [B, extents..., classes]
template <class Options>
list<double> segmenter(const parameter_block& all, const list<double>& images, std::int64_t batch,
                       const std::vector<std::int64_t>& extents) {
  const list<double> cut = oracle::linear(patch_trunk<Options>(all, images, batch, extents), values(all, "head.weight"),
                                          Options::width, values(all, "head.bias"));
  const auto from = places_in_patches(batch, extents, Options::patch, Options::classes);
  list<double> logits(cut.size());
  for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = cut[from[i]];
  return logits;
}

// The noise in images [B, extents..., channels]: time and class are tokens before those of the patches.
template <class Options>
list<double> image_generator(const parameter_block& all, const list<double>& images,
                             const std::vector<std::int32_t>& times, const std::vector<std::int32_t>& labels,
                             const std::vector<std::int64_t>& extents) {
  constexpr std::size_t width = Options::width, half = Options::time_features / 2;
  places at{.batch = static_cast<std::int64_t>(times.size())};
  const list<double> cells = encoded_patches<Options>(all, images, extents, at);
  list<double> waves;
  for (const std::int32_t t : times) {
    const auto angle = [&](std::size_t i) { return t * std::pow(10000, -static_cast<double>(i) / half); };
    for (std::size_t i = 0; i < half; ++i) waves.push_back(std::cos(angle(i)));
    for (std::size_t i = 0; i < half; ++i) waves.push_back(std::sin(angle(i)));
  }
  const list<double> inner = oracle::linear(waves, values(all, "time.0.weight"), 2 * half, values(all, "time.0.bias"));
  const list<double> time =
      oracle::linear(oracle::silu(inner), values(all, "time.1.weight"), width, values(all, "time.1.bias"));
  const list<double> table = values(all, "class.weight");
  const std::size_t of_image = cells.size() / times.size();
  const auto append = [](list<double>& to, const list<double>& from, std::size_t first, std::size_t count) {
    const auto begin = from.begin() + static_cast<std::ptrdiff_t>(first);
    to.insert(to.end(), begin, begin + static_cast<std::ptrdiff_t>(count));
  };
  list<double> tokens;
  for (std::size_t b = 0; b < times.size(); ++b) {
    append(tokens, time, b * width, width);
    append(tokens, table, static_cast<std::size_t>(labels[b]) * width, width);
    append(tokens, cells, b * of_image, of_image);
  }
  at.where.prefix = 2;
  const list<double> features = trunk<Options>(all, "", tokens, at);
  list<double> read;
  for (std::size_t b = 0; b < times.size(); ++b) {
    append(read, features, b * (of_image + 2 * width) + 2 * width, of_image);
  }
  const list<double> noise = oracle::linear(read, values(all, "head.weight"), width, values(all, "head.bias"));
  const auto from = places_in_patches(at.batch, extents, Options::patch, Options::channels);
  list<double> y;
  for (const std::size_t place : from) y.push_back(noise[place]);
  return y;
}

}  // namespace reference
