// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/layer/embedding.hpp>
#include <lightnet/layer/time_embedding.hpp>
#include <lightnet/model/patch_trunk.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// What an image generator may choose; derive from it and name what differs.
struct image_generator_options : patch_trunk_options {
  static constexpr int classes = 10;         ///< beside the label `classes`, which says: of no class
  static constexpr int time_features = 256;  ///< cosines and sines of a time step
};

/// What an image generator reads: images with their share of noise, the time step that says how much, and of which class
/// they are to be.
template <int Dims, class T, class Device = cpu>
struct noisy_images {
  dynamic_view<Dims + 2, const T, Device> images{};      // [B, s_1..s_M, channels]
  dynamic_view<1, const std::int32_t, Device> times{};   // [B]
  dynamic_view<1, const std::int32_t, Device> labels{};  // [B], 0 to classes - 1, or `classes` for none

  using value_type = T;
  using gradient_type = dynamic_view<Dims + 2, T, Device>;
  const T* data() const noexcept { return images.data(); }
  std::int64_t extent(std::size_t axis) const noexcept { return images.extent(axis); }
  /// The part [first, first + count) of the items; `axis` is 0, as that of a view would be.
  noisy_images slice(std::size_t axis, std::int64_t first, std::int64_t count) const {
    return {images.slice(axis, first, count), times.slice(axis, first, count), labels.slice(axis, first, count)};
  }
};

/// The generator of M-dimensional images of arXiv 2405.21022, in the manner of DiT (arXiv 2212.09748): patch embedding,
/// before it time step and class as two tokens without a place, MD-TPE, blocks, final norm, and a linear layer that gives
/// every pixel of a patch the noise that the image has there. y [B, s_1..s_M, channels].
template <class Options, int Dims, class T = float, class Device = cpu>
struct image_generator {
  static constexpr int width = Options::width, classes = Options::classes;
  static constexpr int patch_width = static_cast<int>(patches<Options::patch, Dims>::width(Options::channels));
  static constexpr std::int64_t prefix = 2;  ///< the tokens of time and class
  static_assert(
      !Options::traversal::along_axes,
      "lightnet: the tokens of time and class have no place on an axis; use the traversal global or bidirectional");
  using patching = patches<Options::patch, Dims, T, Device>;
  using patch_embedding = linear<patch_width, width, true, T, Device>;
  using encoding = md_tpe<width, Options::modes, false, Dims, T, Device>;
  using time = time_embedding<width, Options::time_features, T, Device>;
  using label = embedding<classes + 1, width, T, Device>;
  using body = trunk<Options, Dims, T, Device>;
  using head = linear<width, patch_width, true, T, Device>;
  static constexpr std::int64_t encoding_at = patch_embedding::parameter_count;
  static constexpr std::int64_t time_at = encoding_at + encoding::parameter_count;
  static constexpr std::int64_t label_at = time_at + time::parameter_count;
  static constexpr std::int64_t body_at = label_at + label::parameter_count;
  static constexpr std::int64_t head_at = body_at + body::parameter_count;
  static constexpr std::int64_t parameter_count = head_at + head::parameter_count;

  using parameters = parameters_of<image_generator, const T, Device>;
  using gradients = parameters_of<image_generator, T, Device>;
  using input = noisy_images<Dims, T, Device>;
  using image_view = dynamic_view<Dims + 2, T, Device>;
  using const_image_view = dynamic_view<Dims + 2, const T, Device>;

  template <class Mode>
  struct context {
    kept<Mode, T, Device> patches, cells;   // [B N, *]: of the images, and what the head reads
    kept<Mode, T, Device> tokens, encoded;  // [B (prefix + N), width]
    typename time::template context<Mode> times;
    typename body::template context<Mode> blocks;
  };

  void describe(const std::string& name, std::int64_t offset, std::vector<parameter>& list) const {
    patch_embedding{}.describe(name + "embedding.", offset, list, Options::initial_gain);
    encoding{}.describe(name + "tpe.", offset + encoding_at, list);
    time{}.describe(name + "time.", offset + time_at, list, Options::initial_gain);
    label{}.describe(name + "class.", offset + label_at, list, Options::initial_gain);
    body{}.describe(name, offset + body_at, list);
    head{}.describe(name + "head.", offset + head_at, list, Options::initial_gain);
  }

  /// Throws shape_error where the images do not fit the options, device_error, or value_error for a label that is none,
  /// before y is written.
  template <class Mode>
  void forward(execution<Device>& on, const parameters& params, const input& x, const image_view& y,
               context<Mode>& kept_here) const {
    const detail::layer_checker check{"image_generator::forward"};
    const places at = places_of(check, x);
    check.parameters("params", params);
    check_like_images(check, "y", x, y);
    typename execution<Device>::scope scratch{on};
    const auto cut = kept_here.patches.take(scratch, at.cells(), patch_width);
    const auto cells = kept_here.cells.take(scratch, at.cells(), width);
    const auto tokens = kept_here.tokens.take(scratch, at.rows(), width);
    const auto encoded = kept_here.encoded.take(scratch, at.rows(), width);
    patching{}.forward(on, x.images, cut);
    patch_embedding{}.forward(on, detail::part_of<patch_embedding>(params, 0), cut, cells);
    detail::map(on, at.batch, at.per_image(), detail::convert_number{}, at.grid_of(tokens), at.flat(cells));
    time{}.forward(on, detail::part_of<time>(params, time_at), x.times, at.token(tokens, 0), kept_here.times);
    label{}.forward(on, detail::part_of<label>(params, label_at), x.labels, at.token(tokens, 1));
    encoding{}.forward(on, detail::part_of<encoding>(params, encoding_at), at.sequence_of(tokens),
                       at.sequence_of(encoded));
    const auto features = detail::scratch_matrix<T, Device>(scratch, at.rows(), width);
    body{}.forward(on, detail::part_of<body>(params, body_at), at.sequence_of(encoded), at.sequence_of(features),
                   kept_here.blocks);
    detail::map(on, at.batch, at.per_image(), detail::convert_number{}, at.flat(cells), at.grid_of(features));
    const auto noise = detail::scratch_matrix<T, Device>(scratch, at.cells(), patch_width);
    head{}.forward(on, detail::part_of<head>(params, head_at), cells, noise);
    patching{}.backward(on, y, noise);  // puts the patches together
  }
  /// The same with y densely as the rows that a loss takes, [B s_1..s_M, channels].
  template <class Mode>
  void forward(execution<Device>& on, const parameters& params, const input& x, const dynamic_view<2, T, Device>& y,
               context<Mode>& kept_here) const {
    forward(on, params, x, in_space({"image_generator::forward"}, "y", x, y), kept_here);
  }

  /// dimages is overwritten or added to, and left alone where it is not given; dparams is overwritten.
  template <write Write = write::overwrite>
  void backward(execution<Device>& on, const parameters& params, const input& x, const const_image_view& dy,
                const image_view& dimages, const gradients& dparams, const context<train>& kept_here) const {
    const detail::layer_checker check{"image_generator::backward"};
    const places at = places_of(check, x);
    check.parameters("params", params);
    check_like_images(check, "dy", x, dy);
    if (dimages) check_like_images(check, "dimages", x, dimages);
    check.parameters("dparams", dparams);
    check.context(kept_here.patches.view(), at.cells(), patch_width);
    check.context(kept_here.encoded.view(), at.rows(), width);
    typename execution<Device>::scope scratch{on};
    const auto matrix = [&](std::int64_t rows, std::int64_t columns) {
      return detail::scratch_matrix<T, Device>(scratch, rows, columns);
    };
    const auto dnoise = matrix(at.cells(), patch_width), dcells = matrix(at.cells(), width);
    const auto d = matrix(at.rows(), width), dencoded = matrix(at.rows(), width);
    patching{}.forward(on, dy, dnoise);
    head{}.backward(on, detail::part_of<head>(params, head_at), kept_here.cells.view(), dnoise, dcells,
                    detail::part_of<head>(dparams, head_at));
    detail::map(on, at.batch, at.per_image(), detail::convert_number{}, at.grid_of(d), at.flat(dcells));
    detail::map(on, at.batch, prefix * width, clear{}, at.prefix_of(d));
    body{}.backward(on, detail::part_of<body>(params, body_at), at.sequence_of(kept_here.encoded.view()),
                    at.sequence_of(constant(d)), at.sequence_of(dencoded), detail::part_of<body>(dparams, body_at),
                    kept_here.blocks);
    encoding{}.backward(on, detail::part_of<encoding>(params, encoding_at), at.sequence_of(kept_here.tokens.view()),
                        at.sequence_of(constant(dencoded)), at.sequence_of(d),
                        detail::part_of<encoding>(dparams, encoding_at));
    label{}.backward(on, x.labels, at.token(constant(d), 1), detail::part_of<label>(dparams, label_at));
    time{}.backward(on, detail::part_of<time>(params, time_at), at.token(constant(d), 0),
                    detail::part_of<time>(dparams, time_at), kept_here.times);
    detail::map(on, at.batch, at.per_image(), detail::convert_number{}, at.flat(dcells), at.grid_of(d));
    const auto dcut = dimages ? dnoise : dynamic_view<2, T, Device>{};
    patch_embedding{}.backward(on, detail::part_of<patch_embedding>(params, 0), kept_here.patches.view(), dcells, dcut,
                               detail::part_of<patch_embedding>(dparams, 0));
    if (dimages) patching{}.template backward<Write>(on, dimages, dcut);
  }
  template <write Write = write::overwrite>
  void backward(execution<Device>& on, const parameters& params, const input& x,
                const dynamic_view<2, const T, Device>& dy, const image_view& dimages, const gradients& dparams,
                const context<train>& kept_here) const {
    backward<Write>(on, params, x, in_space({"image_generator::backward"}, "dy", x, dy), dimages, dparams, kept_here);
  }

  // What the backend calls is public, for nvcc makes no kernel of a private type.
  struct clear {
    LIGHTNET_HOST_DEVICE void operator()(T& x) const noexcept { x = static_cast<T>(0.0F); }
  };

 private:
  // The tokens of a batch, those of one image after the other: two of the prefix, then the N cells of the grid.
  struct places {
    std::int64_t batch;
    grid<Dims> where;  // with the prefix

    std::int64_t rows() const noexcept { return batch * where.size(); }
    std::int64_t cells() const noexcept { return batch * (where.size() - prefix); }
    std::int64_t per_image() const noexcept { return (where.size() - prefix) * width; }

    template <class U>
    sequence<Dims, U, Device> sequence_of(const dynamic_view<2, U, Device>& all) const {
      return {{all.data(), {{batch, where.size(), width}}}, where};
    }
    /// An image a row: [B, N width] of the cells, by themselves or among all tokens, [B, prefix width], [B, width] of one.
    template <class U>
    dynamic_view<2, U, Device> flat(const dynamic_view<2, U, Device>& of_cells) const {
      return {of_cells.data(), {{batch, per_image()}}};
    }
    template <class U>
    dynamic_view<2, U, Device> grid_of(const dynamic_view<2, U, Device>& all) const {
      return part(all, prefix, where.size() - prefix);
    }
    template <class U>
    dynamic_view<2, U, Device> prefix_of(const dynamic_view<2, U, Device>& all) const {
      return part(all, 0, prefix);
    }
    template <class U>
    dynamic_view<2, U, Device> token(const dynamic_view<2, U, Device>& all, std::int64_t index) const {
      return part(all, index, 1);
    }

   private:
    template <class U>
    dynamic_view<2, U, Device> part(const dynamic_view<2, U, Device>& all, std::int64_t first,
                                    std::int64_t count) const {
      return {all.data() + first * width, {{batch, count * width}}, {where.size() * width, 1}};
    }
  };

  static dynamic_view<2, const T, Device> constant(const dynamic_view<2, T, Device>& rows) { return rows; }

  static places places_of(const detail::layer_checker& check, const input& x) {
    const auto at = patch_trunk<Options, Dims, T, Device>::places_of(check, x.images);
    check.numbers("times", x.times, at.batch);
    check.numbers("labels", x.labels, at.batch);
    grid<Dims> where = at.where;
    where.prefix = prefix;
    return {at.batch, where};
  }

  template <class U>
  static void check_like_images(const detail::layer_checker& check, const char* argument, const input& x,
                                const dynamic_view<Dims + 2, U, Device>& images) {
    if (!images) throw device_error(check.operation, argument, "a view of memory", "a null pointer");
    if (images.extents() != x.images.extents()) {
      throw shape_error(check.operation, argument, "the extents of images " + x.images.describe(), images.describe());
    }
    detail::check_reach(check.operation, argument, images);
  }

  /// Rows of numbers as those of the images.
  template <class U>
  static dynamic_view<Dims + 2, U, Device> in_space(const detail::layer_checker& check, const char* argument,
                                                    const input& x, const dynamic_view<2, U, Device>& rows) {
    places_of(check, x);
    check.dense_matrix(argument, rows, x.images.size() / Options::channels, Options::channels);
    return {rows.data(), x.images.extents()};
  }
};

LIGHTNET_END_NAMESPACE
