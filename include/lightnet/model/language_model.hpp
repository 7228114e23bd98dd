// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/layer/embedding.hpp>
#include <lightnet/model/trunk.hpp>
#include <lightnet/position/md_tpe.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// What a language model may choose beside its blocks; derive from it and name what differs.
struct language_model_options : block_options {
  static constexpr int layers = 2;
  static constexpr int vocabulary = 256;    ///< tokens are numbers below it; bytes by default
  static constexpr int modes = 16;          ///< of MD-TPE; with 0 there is none
  static constexpr bool both_ways = false;  ///< whether MD-TPE reads later tokens, too
  static constexpr bool tied_head = true;   ///< whether the head is the embedding once more
  using position = md_lrpe;
};

/// What the language models of arXiv 2405.21022 share: token embedding, MD-TPE, blocks, final norm, and the embedding once
/// more as the head, or a head of its own without bias. tokens [B, N], dense; logits [B N, vocabulary], those of each token. In
/// infer and decode logits may be [B, vocabulary]: those of the last token of each sequence alone.
///
/// In decode, which is for the traversal causal, a call goes on after the tokens of the calls with the same context: first
/// with a prompt, in parallel, then token by token. What the context holds is of one size, however many tokens there were; a
/// copy of it is a branch.
template <class Options, int Dims, class T = float, class Device = cpu>
struct language_model {
  static_assert(Dims == 1, "lightnet: a language model has one dimension");
  using options = Options;
  static constexpr int width = Options::width, vocabulary = Options::vocabulary;
  static constexpr int classes = vocabulary;  ///< as a trainer calls them
  using embedding_type = embedding<vocabulary, width, T, Device>;
  static constexpr bool encodes = Options::modes > 0, tied = Options::tied_head;
  using encoding = md_tpe<width, encodes ? Options::modes : 1, Options::both_ways, 1, T, Device>;
  using body = trunk<Options, 1, T, Device>;
  using head = linear<width, vocabulary, false, T, Device>;
  static constexpr std::int64_t encoding_at = embedding_type::parameter_count;
  static constexpr std::int64_t body_at = encoding_at + (encodes ? encoding::parameter_count : 0);
  static constexpr std::int64_t head_at = body_at + body::parameter_count;
  static constexpr std::int64_t parameter_count = head_at + (tied ? 0 : head::parameter_count);

  using parameters = parameters_of<language_model, const T, Device>;
  using gradients = parameters_of<language_model, T, Device>;
  using token_view = dynamic_view<2, const std::int32_t, Device>;

  /// What decode remembers beside its blocks. How many tokens there were is known on the device alone, so that a CUDA graph of
  /// a call goes on with each launch.
  struct past {
    std::int64_t sequences = 0;                                  ///< none before the first call
    tensor<rank<1>, std::int64_t, Device> tokens{rank<1>{{1}}};  ///< of each sequence
    typename encoding::modes_so_far modes{};
  };
  template <class Mode>
  struct context {
    kept<Mode, T, Device> embedded, encoded, features;  // [B N, width]
    typename body::template context<Mode> blocks;
    carried<Mode, past> before;
  };

  void describe(const std::string& prefix, std::int64_t offset, std::vector<parameter>& list) const {
    embedding_type{}.describe(prefix + "embeddings.", offset, list, Options::initial_gain);
    if (encodes) encoding{}.describe(prefix + "tpe.", offset + encoding_at, list);
    body{}.describe(prefix, offset + body_at, list);
    if (!tied) head{}.describe(prefix + "lm_head.", offset + head_at, list, Options::initial_gain);
  }

  /// Throws shape_error, value_error for a token that is none, or device_error before anything is written.
  template <class Mode>
  void forward(execution<Device>& on, const parameters& params, const token_view& tokens,
               const dynamic_view<2, T, Device>& logits, context<Mode>& kept_here) const {
    const detail::layer_checker check{"language_model::forward"};
    check_tokens(check, tokens);
    const std::int64_t batch = tokens.extent(0), count = tokens.extent(1), rows = batch * count;
    const bool last_alone = !std::is_same_v<Mode, train> && count > 1 && logits.extent(0) == batch;
    check.parameters("params", params);
    check.matrix("logits", logits, last_alone ? batch : rows, vocabulary);
    typename execution<Device>::scope scratch{on};
    const grid<1> where{{count}};
    const auto origin = begin(check, kept_here, batch);
    const auto take = [&](kept<Mode, T, Device>& memory) {
      return sequence_of(where, batch, memory.take(scratch, rows, width), origin);
    };
    const auto embedded = take(kept_here.embedded), encoded = encodes ? take(kept_here.encoded) : embedded;
    const auto features = take(kept_here.features);
    embedding_type{}.forward(on, detail::part_of<embedding_type>(params, 0), ids(tokens), embedded.rows());
    if constexpr (encodes) {
      const auto encoding_params = detail::part_of<encoding>(params, encoding_at);
      if constexpr (std::is_same_v<Mode, decode>) {
        encoding{}.forward(on, encoding_params, embedded, encoded, kept_here.before.state->modes);
      } else {
        encoding{}.forward(on, encoding_params, embedded, encoded);
      }
    }
    body{}.forward(on, detail::part_of<body>(params, body_at), encoded, features, kept_here.blocks);
    auto read = features.rows();
    if (last_alone) read = {read.data() + (count - 1) * width, {{batch, width}}, {count * width, 1}};
    if constexpr (tied) {
      embedding_type{}.logits(on, detail::part_of<embedding_type>(params, 0), read, logits);
    } else {
      head{}.forward(on, detail::part_of<head>(params, head_at), read, logits);
    }
    if constexpr (std::is_same_v<Mode, decode>) {
      auto& before = *kept_here.before.state;
      before.sequences = batch;
      detail::map(on, 1, 1, go_on{count}, dynamic_view<2, std::int64_t, Device>{before.tokens.data(), {{1, 1}}});
    }
  }

  /// dparams is overwritten. Tokens have no gradient.
  void backward(execution<Device>& on, const parameters& params, const token_view& tokens,
                const dynamic_view<2, const T, Device>& dlogits, const gradients& dparams,
                const context<train>& kept_here) const {
    const detail::layer_checker check{"language_model::backward"};
    check_tokens(check, tokens);
    const std::int64_t batch = tokens.extent(0), count = tokens.extent(1), rows = batch * count;
    check.parameters("params", params);
    check.matrix("dlogits", dlogits, rows, vocabulary);
    check.parameters("dparams", dparams);
    check.context(kept_here.features.view(), rows, width);
    typename execution<Device>::scope scratch{on};
    const grid<1> where{{count}};
    const auto matrix = [&] {
      return sequence_of(where, batch, detail::scratch_matrix<T, Device>(scratch, rows, width));
    };
    const auto d = matrix(), dencoded = matrix();
    const auto dtable = detail::part_of<embedding_type>(dparams, 0);
    if constexpr (tied) {
      embedding_type{}.logits_backward(on, detail::part_of<embedding_type>(params, 0), kept_here.features.view(),
                                       dlogits, d.rows(), dtable);
    } else {
      head{}.backward(on, detail::part_of<head>(params, head_at), kept_here.features.view(), dlogits, d.rows(),
                      detail::part_of<head>(dparams, head_at));
    }
    const auto embedded = sequence_of(where, batch, kept_here.embedded.view());
    const auto encoded = encodes ? sequence_of(where, batch, kept_here.encoded.view()) : embedded;
    body{}.backward(on, detail::part_of<body>(params, body_at), encoded, d, dencoded,
                    detail::part_of<body>(dparams, body_at), kept_here.blocks);
    if constexpr (encodes) {
      encoding{}.backward(on, detail::part_of<encoding>(params, encoding_at), embedded, dencoded, d,
                          detail::part_of<encoding>(dparams, encoding_at));
    }
    embedding_type{}.template backward<tied ? write::add : write::overwrite>(on, ids(tokens),
                                                                             (encodes ? d : dencoded).rows(), dtable);
  }

  // What the backend calls is public, for nvcc makes no kernel of a private type.
  struct go_on {
    std::int64_t count;
    LIGHTNET_HOST_DEVICE void operator()(std::int64_t& tokens) const noexcept { tokens += count; }
  };

 private:
  static void check_tokens(const detail::layer_checker& check, const token_view& tokens) {
    if (!tokens) throw device_error(check.operation, "tokens", "a view of memory", "a null pointer");
    if (!tokens.contiguous()) throw shape_error(check.operation, "tokens", "a dense matrix", tokens.describe());
  }

  /// After how many tokens those of a call come: nothing where there are none in any case.
  template <class Mode>
  static dynamic_view<1, const std::int64_t, Device> begin(const detail::layer_checker& check, context<Mode>& kept_here,
                                                           std::int64_t batch) {
    if constexpr (std::is_same_v<Mode, decode>) {
      auto& before = kept_here.before.state;
      if (!before) before.emplace();
      if (before->sequences != 0 && before->sequences != batch) {
        throw shape_error(check.operation, "tokens", std::to_string(before->sequences) + " sequences, as before",
                          std::to_string(batch));
      }
      return std::as_const(before->tokens).view();
    } else {
      return {};
    }
  }

  template <class U>
  static sequence<1, U, Device> sequence_of(const grid<1>& where, std::int64_t batch,
                                            const dynamic_view<2, U, Device>& rows,
                                            const dynamic_view<1, const std::int64_t, Device>& origin = {}) {
    return {{rows.data(), {{batch, where.size(), rows.extent(1)}}}, where, {}, origin};
  }

  static dynamic_view<1, const std::int32_t, Device> ids(const token_view& tokens) {
    return {tokens.data(), {{tokens.size()}}};
  }
};

LIGHTNET_END_NAMESPACE
