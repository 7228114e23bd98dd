// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/gather.hpp>
#include <lightnet/backend/gemm.hpp>
#include <lightnet/core/layer_check.hpp>
#include <lightnet/core/modes.hpp>
#include <lightnet/core/parameters.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// The embedding E of token ids, x_r = E[id_r], and the head that is tied to it (arXiv 1608.05859), logits = x E^T.
/// ids [R], 0 to Vocabulary - 1; x [R, Width], logits [R, Vocabulary], their rows dense; E [Vocabulary, Width]. Throws
/// device_error, shape_error or, naming the row of an id that is none, value_error before anything is written. Ids in the
/// memory of a GPU that are none read as zeros, and execution::check tells of them.
template <int Vocabulary, int Width, class T = float, class Device = cpu>
struct embedding {
  static constexpr std::int64_t parameter_count = std::int64_t{Vocabulary} * Width;
  using parameters = parameters_of<embedding, const T, Device>;
  using gradients = parameters_of<embedding, T, Device>;
  using id_view = dynamic_view<1, const std::int32_t, Device>;
  using matrix = dynamic_view<2, T, Device>;
  using const_matrix = dynamic_view<2, const T, Device>;
  template <class Mode>
  using context = no_context;

  /// No weight decay: a row changes where its token comes up, and would only shrink elsewhere.
  void describe(const std::string& prefix, std::int64_t offset, std::vector<parameter>& list, double gain = 0) const {
    list.push_back({prefix + "weight", {Vocabulary, Width}, offset, initial_value::weights(Width, gain), false});
  }

  void forward(execution<Device>& on, const parameters& params, const id_view& ids, const matrix& x) const {
    const detail::layer_checker check{"embedding::forward"};
    check.parameters("params", params);
    check_ids(check, ids, x.extent(0));
    check.matrix("x", x, x.extent(0), Width);
    detail::gather_rows<T>(on, check.operation, table(params), ids, x);
  }

  /// dparams is overwritten or added to.
  template <write Write = write::overwrite>
  void backward(execution<Device>& on, const id_view& ids, const const_matrix& dx, const gradients& dparams) const {
    const detail::layer_checker check{"embedding::backward"};
    check_ids(check, ids, dx.extent(0));
    check.matrix("dx", dx, dx.extent(0), Width);
    check.parameters("dparams", dparams);
    detail::scatter_rows<T>(on, check.operation, ids, dx, table(dparams), Write == write::add);
  }

  void logits(execution<Device>& on, const parameters& params, const const_matrix& x, const matrix& y) const {
    const detail::layer_checker check{"embedding::logits"};
    check.parameters("params", params);
    check.matrix("x", x, x.extent(0), Width);
    check.matrix("y", y, x.extent(0), Vocabulary);
    detail::gemm(on, x, detail::transposed(table(params)), y, false);
  }

  /// dx and dparams are overwritten.
  void logits_backward(execution<Device>& on, const parameters& params, const const_matrix& x, const const_matrix& dy,
                       const matrix& dx, const gradients& dparams) const {
    const detail::layer_checker check{"embedding::logits_backward"};
    check.parameters("params", params);
    check.matrix("x", x, x.extent(0), Width);
    check.matrix("dy", dy, x.extent(0), Vocabulary);
    check.matrix("dx", dx, x.extent(0), Width);
    check.parameters("dparams", dparams);
    detail::gemm(on, dy, table(params), dx, false);
    detail::gemm(on, detail::transposed(dy), x, table(dparams), false);
  }

 private:
  template <class U>
  static dynamic_view<2, U, Device> table(const parameters_of<embedding, U, Device>& params) {
    return {params.data(), {{Vocabulary, Width}}};
  }

  static void check_ids(const detail::layer_checker& check, const id_view& ids, std::int64_t rows) {
    if (ids.extent(0) != rows) {
      throw shape_error(check.operation, "ids", "extents [" + std::to_string(rows) + "]", ids.describe());
    }
    if (!ids && rows > 0) throw device_error(check.operation, "ids", "a view of memory", "a null pointer");
    detail::check_reach(check.operation, "ids", ids);
  }
};

LIGHTNET_END_NAMESPACE
