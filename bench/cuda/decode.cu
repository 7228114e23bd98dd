// SPDX-License-Identifier: Apache-2.0

// One token of each text through the paper's language models, as one CUDA graph.

#include "cuda/row.cuh"

#include <lightnet/model/decoder.hpp>
#include <lightnet/model/paper_language_models.hpp>

#include <memory>
#include <vector>

namespace bench {
namespace {

/// Texts that go on by one token each.
template <class Options>
class texts {
 public:
  using model = ln::causal_language_model<Options, 1, ln::bfloat16, ln::cuda>;

  explicit texts(std::int64_t batch)
      : weights_{normal<ln::bfloat16>(1, model::parameter_count)}, text_{model{}, {weights_.data(), {}}, batch} {
    for (std::int64_t b = 0; b < batch; ++b) tokens_.push_back(static_cast<std::int32_t>(b));
  }
  void next(ln::execution<ln::cuda>& on) { text_.read_next(on, tokens_); }

  /// Weights read once, states read and written.
  static double bytes(std::int64_t batch) {
    return sizeof(ln::bfloat16) * static_cast<double>(model::parameter_count) +
           2 * sizeof(float) * state * static_cast<double>(batch);
  }

  static double work(std::int64_t batch) {
    return (2 * static_cast<double>(model::parameter_count) + 4 * state) * static_cast<double>(batch);
  }

 private:
  static constexpr double head = Options::width / Options::heads;
  static constexpr double state = Options::layers * Options::heads * 2 * head * head;  // MD-LRPE doubles the keys

  ln::tensor<ln::rank<1>, ln::bfloat16, ln::cuda> weights_;
  ln::decoder<model, ln::bfloat16, ln::cuda> text_;
  std::vector<std::int32_t> tokens_;
};

template <class Options>
void add_decoding(const std::string& name) {
  for (const std::int64_t batch : {1, 64}) {
    add({"decode/" + name + "/bfloat16/b" + std::to_string(batch), texts<Options>::bytes(batch),
         texts<Options>::work(batch), [batch] {
           const auto own = std::make_shared<texts<Options>>(batch);
           return [own](ln::execution<ln::cuda>& on) { own->next(on); };
         }});
  }
}

}  // namespace

void add_decoding_rows() {
  add_decoding<ln::language_model_150m>("language_model_150m");
  add_decoding<ln::language_model_1b>("language_model_1b");
  add_decoding<ln::language_model_3b>("language_model_3b");
}

}  // namespace bench
