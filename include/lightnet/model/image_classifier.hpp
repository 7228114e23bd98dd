// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/layer/mean_pooling.hpp>
#include <lightnet/layer/patches.hpp>
#include <lightnet/model/trunk.hpp>
#include <lightnet/position/md_tpe.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// What an image classifier may choose; derive from it and name what differs.
struct image_classifier_options : block_options {
  static constexpr int layers = 2;
  static constexpr int channels = 1;  ///< of the images
  static constexpr int patch = 4;     ///< the side of a patch
  static constexpr int classes = 10;
  static constexpr int modes = 16;  ///< of MD-TPE
  using position = md_lrpe;
};

/// The classifier for M-dimensional images of arXiv 2405.21022: patch embedding, MD-TPE, blocks, final norm, mean
/// pooling, linear head. images [B, s_1..s_M, channels], logits [B, classes].
template <class Options, int Dims, class T = float, class Device = cpu>
struct image_classifier {
  static constexpr int width = Options::width, classes = Options::classes;
  static constexpr int patch_width = static_cast<int>(patches<Options::patch, Dims>::width(Options::channels));
  using patching = patches<Options::patch, Dims, T, Device>;
  using embedding = linear<patch_width, width, true, T, Device>;
  using encoding = md_tpe<width, Options::modes, false, Dims, T, Device>;
  using body = trunk<Options, Dims, T, Device>;
  using pooling = mean_pooling<Dims, T, Device>;
  using head = linear<width, classes, true, T, Device>;
  static constexpr std::int64_t encoding_at = embedding::parameter_count;
  static constexpr std::int64_t body_at = encoding_at + encoding::parameter_count;
  static constexpr std::int64_t head_at = body_at + body::parameter_count;
  static constexpr std::int64_t parameter_count = head_at + head::parameter_count;

  using parameters = parameters_of<image_classifier, const T, Device>;
  using gradients = parameters_of<image_classifier, T, Device>;
  using image_view = dynamic_view<Dims + 2, const T, Device>;

  template <class Mode>
  struct context {
    kept<Mode, T, Device> patches, embedded, encoded, pooled;  // [B N, *] three times, [B, width]
    typename body::template context<Mode> blocks;
  };

  void describe(const std::string& prefix, std::int64_t offset, std::vector<parameter>& list) const {
    embedding{}.describe(prefix + "embedding.", offset, list, Options::initial_gain);
    encoding{}.describe(prefix + "tpe.", offset + encoding_at, list);
    body{}.describe(prefix, offset + body_at, list);
    head{}.describe(prefix + "head.", offset + head_at, list, Options::initial_gain);
  }

  /// Throws shape_error where the images do not fit the options, before anything is written.
  template <class Mode>
  void forward(execution<Device>& on, const parameters& params, const image_view& images,
               const dynamic_view<2, T, Device>& logits, context<Mode>& kept_here) const {
    const detail::layer_checker check{"image_classifier::forward"};
    const places at = places_of(check, images);
    check.parameters("params", params);
    check.matrix("logits", logits, at.batch, classes);
    typename execution<Device>::scope scratch{on};
    const auto cut = kept_here.patches.take(scratch, at.rows(), patch_width);
    const auto embedded = at.sequence_of(kept_here.embedded.take(scratch, at.rows(), width));
    const auto encoded = at.sequence_of(kept_here.encoded.take(scratch, at.rows(), width));
    const auto features = at.sequence_of(detail::scratch_matrix<T, Device>(scratch, at.rows(), width));
    const auto pooled = kept_here.pooled.take(scratch, at.batch, width);
    patching{}.forward(on, images, cut);
    embedding{}.forward(on, detail::part_of<embedding>(params, 0), cut, embedded.rows());
    encoding{}.forward(on, detail::part_of<encoding>(params, encoding_at), embedded, encoded);
    body{}.forward(on, detail::part_of<body>(params, body_at), encoded, features, kept_here.blocks);
    pooling{}.forward(on, features, pooled);
    head{}.forward(on, detail::part_of<head>(params, head_at), pooled, logits);
  }

  /// dimages is overwritten or added to, and left alone where it is not given; dparams is overwritten.
  template <write Write = write::overwrite>
  void backward(execution<Device>& on, const parameters& params, const image_view& images,
                const dynamic_view<2, const T, Device>& dlogits, const dynamic_view<Dims + 2, T, Device>& dimages,
                const gradients& dparams, const context<train>& kept_here) const {
    const detail::layer_checker check{"image_classifier::backward"};
    const places at = places_of(check, images);
    check.parameters("params", params);
    check.matrix("dlogits", dlogits, at.batch, classes);
    if (dimages && dimages.extents() != images.extents()) {
      throw shape_error(check.operation, "dimages", "the extents of images " + images.describe(), dimages.describe());
    }
    detail::check_reach(check.operation, "dimages", dimages);
    check.parameters("dparams", dparams);
    check.context(kept_here.patches.view(), at.rows(), patch_width);
    typename execution<Device>::scope scratch{on};
    const auto matrix = [&](std::int64_t rows) { return detail::scratch_matrix<T, Device>(scratch, rows, width); };
    const auto dpooled = matrix(at.batch);
    const auto d = at.sequence_of(matrix(at.rows())), dembedded = at.sequence_of(matrix(at.rows()));
    head{}.backward(on, detail::part_of<head>(params, head_at), kept_here.pooled.view(), dlogits, dpooled,
                    detail::part_of<head>(dparams, head_at));
    pooling{}.backward(on, dpooled, d);
    body{}.backward(on, detail::part_of<body>(params, body_at), at.sequence_of(kept_here.encoded.view()), d, dembedded,
                    detail::part_of<body>(dparams, body_at), kept_here.blocks);
    encoding{}.backward(on, detail::part_of<encoding>(params, encoding_at), at.sequence_of(kept_here.embedded.view()),
                        dembedded, d, detail::part_of<encoding>(dparams, encoding_at));
    dynamic_view<2, T, Device> dcut;
    if (dimages) dcut = detail::scratch_matrix<T, Device>(scratch, at.rows(), patch_width);
    embedding{}.backward(on, detail::part_of<embedding>(params, 0), kept_here.patches.view(), d.rows(), dcut,
                         detail::part_of<embedding>(dparams, 0));
    if (dimages) patching{}.template backward<Write>(on, dimages, dcut);
  }

 private:
  struct places {
    std::int64_t batch;
    grid<Dims> where;
    std::int64_t rows() const noexcept { return batch * where.size(); }
    template <class U>
    sequence<Dims, U, Device> sequence_of(const dynamic_view<2, U, Device>& rows_of) const {
      return {{rows_of.data(), {{batch, where.size(), rows_of.extent(1)}}}, where};
    }
  };

  static places places_of(const detail::layer_checker& check, const image_view& images) {
    if (!images) throw device_error(check.operation, "images", "a view of memory", "a null pointer");
    if (images.extent(Dims + 1) != Options::channels) {
      throw shape_error(check.operation, "images", std::to_string(Options::channels) + " channels", images.describe());
    }
    detail::check_reach(check.operation, "images", images);
    return {images.extent(0), patching::grid_of(check.operation, images)};
  }
};

LIGHTNET_END_NAMESPACE
