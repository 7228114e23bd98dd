// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/layer/mean_pooling.hpp>
#include <lightnet/model/patch_trunk.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// What an image classifier may choose; derive from it and name what differs.
struct image_classifier_options : patch_trunk_options {
  static constexpr int classes = 10;
};

/// The classifier for M-dimensional images of arXiv 2405.21022: patch embedding, MD-TPE, blocks, final norm, mean
/// pooling, linear head. images [B, s_1..s_M, channels], logits [B, classes].
template <class Options, int Dims, class T = float, class Device = cpu>
struct image_classifier {
  static constexpr int width = Options::width, classes = Options::classes;
  using features = patch_trunk<Options, Dims, T, Device>;
  using body = typename features::body;
  using pooling = mean_pooling<Dims, T, Device>;
  using head = linear<width, classes, true, T, Device>;
  static constexpr std::int64_t body_at = features::body_at;
  static constexpr std::int64_t head_at = features::parameter_count;
  static constexpr std::int64_t parameter_count = head_at + head::parameter_count;

  using parameters = parameters_of<image_classifier, const T, Device>;
  using gradients = parameters_of<image_classifier, T, Device>;
  using image_view = typename features::image_view;

  template <class Mode>
  struct context {
    typename features::template context<Mode> trunk;
    kept<Mode, T, Device> pooled;  // [B, width]
  };

  void describe(const std::string& prefix, std::int64_t offset, std::vector<parameter>& list) const {
    features{}.describe(prefix, offset, list);
    head{}.describe(prefix + "head.", offset + head_at, list, Options::initial_gain);
  }

  /// Throws shape_error where the images do not fit the options, before anything is written.
  template <class Mode>
  void forward(execution<Device>& on, const parameters& params, const image_view& images,
               const dynamic_view<2, T, Device>& logits, context<Mode>& kept_here) const {
    const detail::layer_checker check{"image_classifier::forward"};
    const auto at = features::places_of(check, images);
    check.parameters("params", params);
    check.matrix("logits", logits, at.batch, classes);
    typename execution<Device>::scope scratch{on};
    const auto y = at.sequence_of(detail::scratch_matrix<T, Device>(scratch, at.rows(), width));
    const auto pooled = kept_here.pooled.take(scratch, at.batch, width);
    features{}.forward(on, detail::part_of<features>(params, 0), images, y, kept_here.trunk);
    pooling{}.forward(on, y, pooled);
    head{}.forward(on, detail::part_of<head>(params, head_at), pooled, logits);
  }

  /// dimages is overwritten or added to, and left alone where it is not given; dparams is overwritten.
  template <write Write = write::overwrite>
  void backward(execution<Device>& on, const parameters& params, const image_view& images,
                const dynamic_view<2, const T, Device>& dlogits, const dynamic_view<Dims + 2, T, Device>& dimages,
                const gradients& dparams, const context<train>& kept_here) const {
    const detail::layer_checker check{"image_classifier::backward"};
    const auto at = features::places_of(check, images);
    check.parameters("params", params);
    check.matrix("dlogits", dlogits, at.batch, classes);
    features::check_backward(check, images, dimages, kept_here.trunk);
    check.parameters("dparams", dparams);
    typename execution<Device>::scope scratch{on};
    const auto dpooled = detail::scratch_matrix<T, Device>(scratch, at.batch, width);
    const auto dy = at.sequence_of(detail::scratch_matrix<T, Device>(scratch, at.rows(), width));
    head{}.backward(on, detail::part_of<head>(params, head_at), kept_here.pooled.view(), dlogits, dpooled,
                    detail::part_of<head>(dparams, head_at));
    pooling{}.backward(on, dpooled, dy);
    features{}.template backward<Write>(on, detail::part_of<features>(params, 0), images, dy, dimages,
                                        detail::part_of<features>(dparams, 0), kept_here.trunk);
  }
};

LIGHTNET_END_NAMESPACE
