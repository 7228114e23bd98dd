// SPDX-License-Identifier: Apache-2.0
#pragma once

// The contents page of the library, in reading order. Not here, because they need more than Eigen: checkpoints
// (train/checkpoint.hpp) and files (io/), which need nlohmann-json, and Eigen's Tensor module (eigen_tensor.hpp).

// core: what everything is written in
#include <lightnet/core/concepts.hpp>
#include <lightnet/core/config.hpp>
#include <lightnet/core/decimal.hpp>
#include <lightnet/core/error.hpp>
#include <lightnet/core/execution.hpp>
#include <lightnet/core/extents.hpp>
#include <lightnet/core/grid.hpp>
#include <lightnet/core/half.hpp>
#include <lightnet/core/head_sequence.hpp>
#include <lightnet/core/math.hpp>
#include <lightnet/core/modes.hpp>
#include <lightnet/core/parameters.hpp>
#include <lightnet/core/random.hpp>
#include <lightnet/core/sequence.hpp>
#include <lightnet/core/state.hpp>
#include <lightnet/core/tensor.hpp>
#include <lightnet/core/view.hpp>
#include <lightnet/eigen.hpp>

// backend: one folder a device
#include <lightnet/backend/execution.hpp>
#include <lightnet/backend/random.hpp>

// monoids, and the recurrences, traversals and encodings that are built on them
#include <lightnet/monoid/affine.hpp>
#include <lightnet/monoid/log_sum_exp.hpp>
#include <lightnet/position/encode.hpp>
#include <lightnet/position/md_tpe.hpp>
#include <lightnet/recurrence.hpp>

// layers, and the models made of them
#include <lightnet/layer/embedding.hpp>
#include <lightnet/layer/gate.hpp>
#include <lightnet/layer/linear.hpp>
#include <lightnet/layer/logits_projection.hpp>
#include <lightnet/layer/mean_pooling.hpp>
#include <lightnet/layer/norm.hpp>
#include <lightnet/layer/patches.hpp>
#include <lightnet/layer/time_embedding.hpp>
#include <lightnet/model/attention.hpp>
#include <lightnet/model/block.hpp>
#include <lightnet/model/causal_language_model.hpp>
#include <lightnet/model/decoder.hpp>
#include <lightnet/model/diffusion.hpp>
#include <lightnet/model/fla_language_model.hpp>
#include <lightnet/model/generate.hpp>
#include <lightnet/model/glu.hpp>
#include <lightnet/model/image_classifier.hpp>
#include <lightnet/model/image_generator.hpp>
#include <lightnet/model/language_model.hpp>
#include <lightnet/model/masked_language_model.hpp>
#include <lightnet/model/paper_image_generators.hpp>
#include <lightnet/model/paper_language_models.hpp>
#include <lightnet/model/patch_trunk.hpp>
#include <lightnet/model/sample_images.hpp>
#include <lightnet/model/sampling.hpp>
#include <lightnet/model/segmenter.hpp>
#include <lightnet/model/trunk.hpp>

// training
#include <lightnet/loss/cross_entropy.hpp>
#include <lightnet/loss/mean_squared_error.hpp>
#include <lightnet/train/adam.hpp>
#include <lightnet/train/data_order.hpp>
#include <lightnet/train/image_batches.hpp>
#include <lightnet/train/masked_batches.hpp>
#include <lightnet/train/master_parameters.hpp>
#include <lightnet/train/noisy_batches.hpp>
#include <lightnet/train/prefetching_batches.hpp>
#include <lightnet/train/presets.hpp>
#include <lightnet/train/schedule.hpp>
#include <lightnet/train/text_batches.hpp>
#include <lightnet/train/token_batches.hpp>
#include <lightnet/train/trainer.hpp>
#include <lightnet/train/weight_average.hpp>
