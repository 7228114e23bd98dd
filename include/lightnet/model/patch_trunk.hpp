// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/layer/patches.hpp>
#include <lightnet/model/trunk.hpp>
#include <lightnet/position/md_tpe.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// What a model of images may choose; derive from it and name what differs.
struct patch_trunk_options : block_options {
  static constexpr int layers = 2;
  static constexpr int channels = 1;  ///< of the images
  static constexpr int patch = 4;     ///< the side of a patch
  static constexpr int modes = 16;    ///< of MD-TPE
  using position = md_lrpe;
};

/// The part that models of M-dimensional images share (arXiv 2405.21022): patch embedding, MD-TPE, blocks, final norm.
/// images [B, s_1..s_M, channels], y [B, N, width] at the places of the patches. Throws device_error or shape_error before
/// anything is written.
template <class Options, int Dims, class T = float, class Device = cpu>
struct patch_trunk {
  static constexpr int width = Options::width;
  static constexpr int patch_width = static_cast<int>(patches<Options::patch, Dims>::width(Options::channels));
  using patching = patches<Options::patch, Dims, T, Device>;
  using embedding = linear<patch_width, width, true, T, Device>;
  using encoding = md_tpe<width, Options::modes, false, Dims, T, Device>;
  using body = trunk<Options, Dims, T, Device>;
  static constexpr std::int64_t encoding_at = embedding::parameter_count;
  static constexpr std::int64_t body_at = encoding_at + encoding::parameter_count;
  static constexpr std::int64_t parameter_count = body_at + body::parameter_count;

  using parameters = parameters_of<patch_trunk, const T, Device>;
  using gradients = parameters_of<patch_trunk, T, Device>;
  using image_view = dynamic_view<Dims + 2, const T, Device>;
  using gradient_view = dynamic_view<Dims + 2, T, Device>;
  using input = sequence<Dims, const T, Device>;
  using output = sequence<Dims, T, Device>;

  template <class Mode>
  struct context {
    kept<Mode, T, Device> patches, embedded, encoded;  // [B N, *]
    typename body::template context<Mode> blocks;
  };

  /// How many images, and where the patches of each lie.
  struct places {
    std::int64_t batch;
    grid<Dims> where;
    std::int64_t rows() const noexcept { return batch * where.size(); }
    template <class U>
    sequence<Dims, U, Device> sequence_of(const dynamic_view<2, U, Device>& rows_of) const {
      return {{rows_of.data(), {{batch, where.size(), rows_of.extent(1)}}}, where};
    }
  };

  /// The places of images. Throws, on behalf of an operation, where they do not fit the options.
  static places places_of(const detail::layer_checker& check, const image_view& images) {
    if (!images) throw device_error(check.operation, "images", "a view of memory", "a null pointer");
    if (images.extent(Dims + 1) != Options::channels) {
      throw shape_error(check.operation, "images", std::to_string(Options::channels) + " channels", images.describe());
    }
    detail::check_reach(check.operation, "images", images);
    return {images.extent(0), patching::grid_of(check.operation, images)};
  }

  /// Throws, on behalf of an operation, where a gradient or what forward kept does not fit the images.
  static void check_backward(const detail::layer_checker& check, const image_view& images, const gradient_view& dimages,
                             const context<train>& kept_here) {
    if (dimages && dimages.extents() != images.extents()) {
      throw shape_error(check.operation, "dimages", "the extents of images " + images.describe(), dimages.describe());
    }
    detail::check_reach(check.operation, "dimages", dimages);
    check.context(kept_here.patches.view(), places_of(check, images).rows(), patch_width);
  }

  void describe(const std::string& prefix, std::int64_t offset, std::vector<parameter>& list) const {
    embedding{}.describe(prefix + "embedding.", offset, list, Options::initial_gain);
    encoding{}.describe(prefix + "tpe.", offset + encoding_at, list);
    body{}.describe(prefix, offset + body_at, list);
  }

  template <class Mode>
  void forward(execution<Device>& on, const parameters& params, const image_view& images, const output& y,
               context<Mode>& kept_here) const {
    const detail::layer_checker check{"patch_trunk::forward"};
    const places at = places_of(check, images);
    check.parameters("params", params);
    check.tokens("y", y, at.batch, at.where.size(), width);
    typename execution<Device>::scope scratch{on};
    const auto cut = kept_here.patches.take(scratch, at.rows(), patch_width);
    const auto embedded = at.sequence_of(kept_here.embedded.take(scratch, at.rows(), width));
    const auto encoded = at.sequence_of(kept_here.encoded.take(scratch, at.rows(), width));
    patching{}.forward(on, images, cut);
    embedding{}.forward(on, detail::part_of<embedding>(params, 0), cut, embedded.rows());
    encoding{}.forward(on, detail::part_of<encoding>(params, encoding_at), embedded, encoded);
    body{}.forward(on, detail::part_of<body>(params, body_at), encoded, y, kept_here.blocks);
  }

  /// dimages is overwritten or added to, and left alone where it is not given; dparams is overwritten, and dy is used up.
  template <write Write = write::overwrite>
  void backward(execution<Device>& on, const parameters& params, const image_view& images, const output& dy,
                const gradient_view& dimages, const gradients& dparams, const context<train>& kept_here) const {
    const detail::layer_checker check{"patch_trunk::backward"};
    const places at = places_of(check, images);
    check.parameters("params", params);
    check.tokens("dy", dy, at.batch, at.where.size(), width);
    check_backward(check, images, dimages, kept_here);
    check.parameters("dparams", dparams);
    typename execution<Device>::scope scratch{on};
    const auto dembedded = at.sequence_of(detail::scratch_matrix<T, Device>(scratch, at.rows(), width));
    body{}.backward(on, detail::part_of<body>(params, body_at), at.sequence_of(kept_here.encoded.view()), dy, dembedded,
                    detail::part_of<body>(dparams, body_at), kept_here.blocks);
    const auto& d = dy;
    encoding{}.backward(on, detail::part_of<encoding>(params, encoding_at), at.sequence_of(kept_here.embedded.view()),
                        dembedded, d, detail::part_of<encoding>(dparams, encoding_at));
    dynamic_view<2, T, Device> dcut;
    if (dimages) dcut = detail::scratch_matrix<T, Device>(scratch, at.rows(), patch_width);
    embedding{}.backward(on, detail::part_of<embedding>(params, 0), kept_here.patches.view(), d.rows(), dcut,
                         detail::part_of<embedding>(dparams, 0));
    if (dimages) patching{}.template backward<Write>(on, dimages, dcut);
  }
};

LIGHTNET_END_NAMESPACE
