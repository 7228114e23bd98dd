// SPDX-License-Identifier: Apache-2.0
#include "judge.hpp"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <lightnet/train/trainer.hpp>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "fashion_mnist/batches.hpp"
#include "fashion_mnist/network.hpp"

namespace generate_images {

using network = fashion_mnist::network<fashion_mnist::model_options, device>;

judge judge::loaded(const std::string& path) {
  return judge{fashion_mnist::load_network<fashion_mnist::model_options, device>(lightnet::safetensors_file{path})};
}

judge judge::trained(lightnet::execution<device>& on, const fashion_mnist::data_set& data, std::int64_t images,
                     std::int64_t epochs) {
  auto chosen = fashion_mnist::standard_settings();
  chosen.epochs = epochs;
  lightnet::trainer<network, float, device> trainer{{}, fashion_mnist::options_for(chosen, images)};
  fashion_mnist::batches training{data.train, chosen, images, chosen.seed}, testing{data.test, data.test.count};
  const std::atomic<bool> never{false};
  trainer.run(on, training, never, [](const lightnet::training_progress&) {});
  std::printf("the classifier knows %.2f %% of the held-out images\n", 100 * trainer.evaluate(on, testing).accuracy());
  std::fflush(stdout);
  return judge{trainer.parameters()};
}

judge::feature_matrix judge::features(lightnet::execution<device>& on, const fashion_mnist::image_set& images,
                                      std::int64_t count) const {
  constexpr std::int64_t batch = 1000;
  constexpr int patch = fashion_mnist::model_options::patch;
  const lightnet::grid<2> where{{images.rows / patch, images.columns / patch}};
  fashion_mnist::batches source{images, count};
  feature_matrix all{{{count, network::width}}};
  lightnet::tensor<lightnet::rank<3>, float, device> tokens;  // [B, N, width]
  lightnet::tensor<lightnet::rank<2>, float, device> pooled;  // [B, width]
  std::vector<std::int64_t> items;
  for (std::int64_t first = 0; first < count; first += batch) {
    const auto some = std::min(batch, count - first);
    items.resize(static_cast<std::size_t>(some));
    std::iota(items.begin(), items.end(), first);
    const auto part = source.load(items, 0);
    source.fill(on);
    if (pooled.extent(0) != some) {
      tokens.resize({{some, where.size(), network::width}});
      pooled.resize({{some, network::width}});
    }
    network::features::context<lightnet::infer> nothing;
    network::features{}.forward(on, {parameters_.view().data(), {}}, part.inputs, {tokens.view(), where}, nothing);
    network::pooling{}.forward(on, {std::as_const(tokens).view(), where}, pooled.view());
    on.check();
    device::copy(all.data() + first * network::width, pooled.data(),
                 static_cast<std::size_t>(pooled.size()) * sizeof(float));
  }
  return all;
}

}  // namespace generate_images
