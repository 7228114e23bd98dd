// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/model/patch_trunk.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// What a segmenter may choose; derive from it and name what differs.
struct segmenter_options : patch_trunk_options {
  static constexpr int classes = 2;  ///< of a pixel
};

/// A class for every pixel of M-dimensional images, volumes and films among them: the classifier of arXiv 2405.21022 with
/// a linear head that gives the logits of all pixels of a patch in place of the pooled one. images
/// [B, s_1..s_M, channels], logits [B, s_1..s_M, classes] of any strides, or densely as the rows that a loss takes,
/// [B s_1..s_M, classes].
template <class Options, int Dims, class T = float, class Device = cpu>
struct segmenter {
  static constexpr int width = Options::width, classes = Options::classes;
  using features = patch_trunk<Options, Dims, T, Device>;
  using patching = typename features::patching;
  static constexpr int patch_classes = static_cast<int>(patching::width(classes));
  using head = linear<width, patch_classes, true, T, Device>;
  static constexpr std::int64_t head_at = features::parameter_count;
  static constexpr std::int64_t parameter_count = head_at + head::parameter_count;

  using parameters = parameters_of<segmenter, const T, Device>;
  using gradients = parameters_of<segmenter, T, Device>;
  using image_view = typename features::image_view;
  using logit_view = dynamic_view<Dims + 2, T, Device>;
  using const_logit_view = dynamic_view<Dims + 2, const T, Device>;

  template <class Mode>
  struct context {
    typename features::template context<Mode> trunk;
    kept<Mode, T, Device> read;  // [B N, width]: what the trunk gave
  };

  void describe(const std::string& prefix, std::int64_t offset, std::vector<parameter>& list) const {
    features{}.describe(prefix, offset, list);
    head{}.describe(prefix + "head.", offset + head_at, list, Options::initial_gain);
  }

  /// Throws device_error or shape_error where images or logits do not fit, before anything is written.
  template <class Mode>
  void forward(execution<Device>& on, const parameters& params, const image_view& images, const logit_view& logits,
               context<Mode>& kept_here) const {
    const detail::layer_checker check{"segmenter::forward"};
    const auto at = features::places_of(check, images);
    check.parameters("params", params);
    check_logits(check, "logits", images, logits);
    typename execution<Device>::scope scratch{on};
    const auto read = kept_here.read.take(scratch, at.rows(), width);
    const auto cut = detail::scratch_matrix<T, Device>(scratch, at.rows(), patch_classes);
    features{}.forward(on, detail::part_of<features>(params, 0), images, at.sequence_of(read), kept_here.trunk);
    head{}.forward(on, detail::part_of<head>(params, head_at), read, cut);
    patching{}.backward(on, logits, cut);  // puts the patches together
  }
  template <class Mode>
  void forward(execution<Device>& on, const parameters& params, const image_view& images,
               const dynamic_view<2, T, Device>& logits, context<Mode>& kept_here) const {
    forward(on, params, images, in_space({"segmenter::forward"}, "logits", images, logits), kept_here);
  }

  /// dimages is overwritten or added to, and left alone where it is not given; dparams is overwritten.
  template <write Write = write::overwrite>
  void backward(execution<Device>& on, const parameters& params, const image_view& images,
                const const_logit_view& dlogits, const dynamic_view<Dims + 2, T, Device>& dimages,
                const gradients& dparams, const context<train>& kept_here) const {
    const detail::layer_checker check{"segmenter::backward"};
    const auto at = features::places_of(check, images);
    check.parameters("params", params);
    check_logits(check, "dlogits", images, dlogits);
    features::check_backward(check, images, dimages, kept_here.trunk);
    check.parameters("dparams", dparams);
    typename execution<Device>::scope scratch{on};
    const auto dcut = detail::scratch_matrix<T, Device>(scratch, at.rows(), patch_classes);
    const auto dread = detail::scratch_matrix<T, Device>(scratch, at.rows(), width);
    patching{}.forward(on, dlogits, dcut);
    head{}.backward(on, detail::part_of<head>(params, head_at), kept_here.read.view(), dcut, dread,
                    detail::part_of<head>(dparams, head_at));
    features{}.template backward<Write>(on, detail::part_of<features>(params, 0), images, at.sequence_of(dread),
                                        dimages, detail::part_of<features>(dparams, 0), kept_here.trunk);
  }
  template <write Write = write::overwrite>
  void backward(execution<Device>& on, const parameters& params, const image_view& images,
                const dynamic_view<2, const T, Device>& dlogits, const dynamic_view<Dims + 2, T, Device>& dimages,
                const gradients& dparams, const context<train>& kept_here) const {
    backward<Write>(on, params, images, in_space({"segmenter::backward"}, "dlogits", images, dlogits), dimages, dparams,
                    kept_here);
  }

 private:
  static auto logit_extents(const image_view& images) {
    auto extents = images.extents();
    extents[Dims + 1] = classes;
    return extents;
  }

  template <class U>
  static void check_logits(const detail::layer_checker& check, const char* argument, const image_view& images,
                           const dynamic_view<Dims + 2, U, Device>& logits) {
    if (!logits) throw device_error(check.operation, argument, "a view of memory", "a null pointer");
    if (logits.extents() != logit_extents(images)) {
      throw shape_error(check.operation, argument, detail::bracketed(logit_extents(images)), logits.describe());
    }
    detail::check_reach(check.operation, argument, logits);
  }

  /// Rows of logits as those of the images.
  template <class U>
  static dynamic_view<Dims + 2, U, Device> in_space(const detail::layer_checker& check, const char* argument,
                                                    const image_view& images, const dynamic_view<2, U, Device>& rows) {
    features::places_of(check, images);
    check.dense_matrix(argument, rows, images.size() / Options::channels, classes);
    return {rows.data(), logit_extents(images)};
  }
};

LIGHTNET_END_NAMESPACE
