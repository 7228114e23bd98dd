// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#if __has_include(<nlohmann/json.hpp>)

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <lightnet/train/checkpoint.hpp>
#include <memory>
#include <string>
#include <vector>

#include "../temporary_folder.hpp"
#include "train/later_process.hpp"
#include "train/tiny_model.hpp"

namespace ln = lightnet;
namespace fs = std::filesystem;

namespace {

using model = tiny::model<>;
using trainer = ln::trainer<model, double>;
const std::atomic<bool> never{false};

void put(const fs::path& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  REQUIRE(file.good());
}

/// A trainer in the middle of an epoch.
trainer begun(std::int64_t steps = 20) {
  ln::execution<ln::cpu> on{1};
  trainer made{model{}, tiny::options()};
  tiny::points<> source{200};
  std::atomic<bool> stop{steps == 0};
  made.run(on, source, stop, [&](const auto& now) { stop = now.step == steps; });
  return made;
}

/// Loads the file into a trainer elsewhere in its training, which must stay as it was if that fails. Returns what was
/// thrown.
std::string refusal(const fs::path& path) {
  trainer into = begun(2);
  const auto before = tiny::snapshot(into);
  try {
    ln::checkpoint{path}.load(into);
  } catch (const ln::file_error& wrong) {
    CHECK(tiny::snapshot(into) == before);
    std::string text = wrong.what();
    CHECK(text.find(path.string()) != std::string::npos);
    return text;
  }
  return {};
}

/// A file as safetensors sees it, to be changed and written again.
struct parts {
  explicit parts(const fs::path& path)
      : file{std::make_shared<ln::safetensors_file>(path)},
        tensors(file->tensors().begin(), file->tensors().end()),
        metadata{file->metadata()} {}
  void write(const fs::path& path) const { ln::write_safetensors(path, tensors, metadata); }
  ln::stored_tensor& operator[](const std::string& name) {
    return *std::find_if(tensors.begin(), tensors.end(), [&](const auto& tensor) { return tensor.name == name; });
  }
  std::shared_ptr<ln::safetensors_file> file;  // owns the bytes
  std::vector<ln::stored_tensor> tensors;
  std::map<std::string, std::string> metadata;
};

}  // namespace

TEST_CASE("checkpoint: training goes on bit for bit") {
  const folder here;
  const auto path = here / "a.safetensors";
  ln::execution<ln::cpu> on{2};
  tiny::points<> source{200};
  trainer whole{model{}, tiny::options()};
  CHECK(whole.run(on, source, never, [](const auto&) {}));

  for (const std::int64_t steps : {0, 1, 13, 20, 39}) {
    const trainer first = begun(steps);
    ln::save_checkpoint(path, first);
    const ln::checkpoint saved{path};
    CHECK(saved.options() == tiny::options());
    CHECK(saved.state() == first.state());
    trainer second{model{}, saved.options()};
    saved.load(second);
    CHECK(tiny::snapshot(second) == tiny::snapshot(first));
    CHECK(second.run(on, source, never, [](const auto&) {}));
    CHECK(tiny::snapshot(second) == tiny::snapshot(whole));
  }
}

TEST_CASE("checkpoint: ten updates, and ten in a new process, are twenty") {
  ln::execution<ln::cpu> on{2};
  later::check<float>(on, "checkpoint: ten updates*");
}

TEST_CASE("checkpoint: trainers of float and bfloat16 read each other's") {
  const folder here;
  const auto path = here / "a.safetensors";
  ln::execution<ln::cpu> on{1};
  using narrow_trainer = ln::trainer<tiny::model<5, ln::bfloat16>, ln::bfloat16>;
  using wide_trainer = ln::trainer<tiny::model<5, float>, float>;
  tiny::points<ln::bfloat16> narrow_source{200};
  tiny::points<float> wide_source{200};
  const auto begin = [&](auto& made, auto& source) {
    std::atomic<bool> stop{false};
    made.run(on, source, stop, [&](const auto& now) { stop = now.step == 20; });
  };
  const auto check = [&](const auto& from, auto& into) {
    CHECK(tiny::values(into.parameters()) != tiny::values(from.parameters()));
    ln::save_checkpoint(path, from);
    const ln::safetensors_file file{path};
    for (const ln::stored_tensor& each : file.tensors()) CHECK(each.type == ln::stored_type::f32);
    ln::checkpoint{path}.load(into);
    CHECK(tiny::values(into.parameters()) == tiny::values(from.parameters()));
    CHECK(tiny::values(into.optimiser().first_moment()) == tiny::values(from.optimiser().first_moment()));
    CHECK(tiny::values(into.optimiser().second_moment()) == tiny::values(from.optimiser().second_moment()));
    CHECK(into.state() == from.state());
    const auto master = into.parameters().view();
    const auto rounded = into.rounded_parameters().view();
    using type = std::remove_cvref_t<decltype(rounded(0))>;
    for (std::int64_t i = 0; i < master.size(); ++i) CHECK(rounded(i) == static_cast<type>(master(i)));
  };
  narrow_trainer whole{{}, tiny::options()}, again{{}, tiny::options()}, from_wide{{}, tiny::options()};
  wide_trainer wide{{}, tiny::options()}, from_narrow{{}, tiny::options()};
  begin(whole, narrow_source);
  begin(wide, wide_source);
  check(wide, from_wide);
  check(whole, from_narrow);
  check(whole, again);

  // And training in bfloat16 goes on bit for bit.
  CHECK(whole.run(on, narrow_source, never, [](const auto&) {}));
  CHECK(again.run(on, narrow_source, never, [](const auto&) {}));
  CHECK(tiny::snapshot(again) == tiny::snapshot(whole));
}

TEST_CASE("checkpoint: names, shapes and numbers that others can read") {
  const folder here;
  const auto path = here / "a.safetensors";
  const trainer from = begun();
  const std::vector<float> curve{1, 2, 3, 4, 5, 6};
  ln::checkpoint_extras extras;
  extras.metadata["made by"] = "a test";
  extras.tensors.push_back(ln::store("curve", {2, 3}, std::span<const float>(curve)));
  ln::save_checkpoint(path, from, extras);

  const ln::safetensors_file file{path};
  CHECK(file.tensors().size() == 3 * 3 + 1);
  const std::vector<std::int64_t> shape{5, 3};
  const auto& weight = file.require("inner.weight", ln::stored_type::f64, shape);
  CHECK(std::memcmp(weight.data.data(), from.parameters().view().data(), weight.data.size()) == 0);
  CHECK(file.find("optimizer.first.outer.bias") != nullptr);
  CHECK(file.find("optimizer.second.inner.weight") != nullptr);
  CHECK(file.metadata().at("state.step") == "20");
  CHECK(file.metadata().at("options.seed") == "5");
  CHECK(file.metadata().at("options.schedule.shape") == "cosine");

  const ln::checkpoint saved{path};
  CHECK(saved.extras() == extras.metadata);
  REQUIRE(saved.extra("curve") != nullptr);
  CHECK(std::ranges::equal(saved.extra("curve")->data, std::as_bytes(std::span(curve))));
  CHECK(saved.extra("window") == nullptr);
}

TEST_CASE("checkpoint: cut short at any length") {
  const folder here;
  const auto path = here / "a.safetensors";
  ln::save_checkpoint(path, begun());
  const auto whole = contents(path);
  CHECK(refusal(path).empty());
  for (std::size_t length = 0; length < whole.size(); length += length < 32 ? 1 : 37) {
    CAPTURE(length);
    put(path, whole.substr(0, length));
    CHECK_FALSE(refusal(path).empty());
  }
  put(path, whole.substr(0, whole.size() - 1));
  CHECK_FALSE(refusal(path).empty());
  put(path, whole + '\0');
  CHECK_FALSE(refusal(path).empty());
  CHECK(refusal(here / "none").find("cannot be opened") != std::string::npos);
}

TEST_CASE("checkpoint: a byte that changed is found, or changes a number, or nothing") {
  const folder here;
  const auto path = here / "a.safetensors";
  ln::save_checkpoint(path, begun());
  const auto whole = contents(path);
  std::uint64_t header = 0;
  std::memcpy(&header, whole.data(), sizeof header);
  std::size_t refused = 0, tried = 0;
  for (std::size_t at = 0; at < 8 + header; at += 3, ++tried) {
    auto bytes = whole;
    bytes[at] = static_cast<char>(bytes[at] ^ (at % 2 == 0 ? 1 : 4));
    put(path, bytes);
    refused += refusal(path).empty() ? 0 : 1;
  }
  CHECK(refused > tried * 8 / 10);
}

TEST_CASE("checkpoint: tensors that do not belong to the model") {
  const folder here;
  const auto path = here / "a.safetensors";
  ln::save_checkpoint(path, begun());
  const parts good{path};
  const auto changed = [&](auto change) {
    parts bad = good;
    change(bad);
    bad.write(path);
    return refusal(path);
  };
  SUBCASE("missing") {
    for (const char* name : {"outer.bias", "optimizer.first.outer.bias", "optimizer.second.outer.bias"}) {
      const auto text = changed([&](parts& p) { p.tensors.erase(p.tensors.begin() + (&p[name] - p.tensors.data())); });
      CHECK(text.find(name) != std::string::npos);
    }
  }
  SUBCASE("unknown") {
    const auto text = changed([&](parts& p) {
      p.tensors.push_back(p["outer.bias"]);
      p.tensors.back().name = "outer.scale";
    });
    CHECK(text.find("left over: 'outer.scale'") != std::string::npos);
    CHECK(changed([&](parts& p) {
            for (const char* name : {"extra.curve", "extra.window"}) {
              p.tensors.push_back(p["outer.bias"]);
              p.tensors.back().name = name;
            }
          }).find("left over: 'extra.curve', 'extra.window'") != std::string::npos);
    trainer into = begun(2);
    const auto before = tiny::snapshot(into);
    CHECK_THROWS_WITH_AS(ln::checkpoint{path}.load(into, {"curve"}), doctest::Contains("left over: 'extra.window'"),
                         ln::file_error);
    CHECK(tiny::snapshot(into) == before);
    CHECK_NOTHROW(ln::checkpoint{path}.load(into, {"curve", "window"}));
  }
  SUBCASE("of another shape") {
    const auto text = changed([&](parts& p) { p["inner.weight"].shape = {3, 5}; });
    CHECK(text.find("[3, 5], expected [5, 3]") != std::string::npos);
  }
  SUBCASE("of another type") {
    const auto text = changed([&](parts& p) { p["inner.weight"].type = ln::stored_type::i64; });
    CHECK(text.find("I64, expected F64") != std::string::npos);
  }
  SUBCASE("with what is no number") {
    std::vector<double> numbers(4, 0.5);
    const auto text = [&](const char* name, double bad) {
      numbers[2] = bad;
      return changed([&](parts& p) { p[name] = ln::store(name, {4}, std::span<const double>(numbers)); });
    };
    CHECK(text("outer.bias", 7).empty());
    CHECK(text("outer.bias", static_cast<double>(NAN)).find("'outer.bias' holds nan, expected finite numbers") !=
          std::string::npos);
    CHECK(text("optimizer.first.outer.bias", -static_cast<double>(INFINITY)).find("holds -inf") != std::string::npos);
    CHECK(text("optimizer.second.outer.bias", -1).find("holds -1, expected finite numbers, zero or more") !=
          std::string::npos);
  }
  SUBCASE("of a larger model") {
    trainer into = begun(2);
    using larger = tiny::model<6>;
    ln::save_checkpoint(path, ln::trainer<larger, double>{larger{}, tiny::options()});
    CHECK(refusal(path).find("expected [5, 3]") != std::string::npos);
  }
  SUBCASE("of float") {
    using narrow = tiny::model<5, float>;
    ln::save_checkpoint(path, ln::trainer<narrow, float>{narrow{}, tiny::options()});
    CHECK(refusal(path).find("F32, expected F64") != std::string::npos);
  }
}

TEST_CASE("checkpoint: metadata that say something else") {
  const folder here;
  const auto path = here / "a.safetensors";
  ln::save_checkpoint(path, begun());
  const parts good{path};
  const auto with = [&](const std::string& name, const std::string& value) {
    parts bad = good;
    bad.metadata[name] = value;
    bad.write(path);
    return refusal(path);
  };
  for (const auto& entry : good.metadata) {
    const std::string& name = entry.first;
    CAPTURE(name);
    parts bad = good;
    bad.metadata.erase(name);
    bad.write(path);
    CHECK(refusal(path).find(name) != std::string::npos);
    for (const std::string nonsense :
         {"", "x", " 1", "1 ", "0x1p+0", "nan", "inf", "-inf", "1p+9999", "1.5.5", "1,5"}) {
      CAPTURE(nonsense);
      CHECK_FALSE(with(name, nonsense).empty());
    }
    if (name != "options.seed" && name.starts_with("state.")) CHECK_FALSE(with(name, "-1").empty());
  }
  CHECK(with("format", "pt").find("'pt'") != std::string::npos);
  CHECK(with("format.version", "2").find("expected '1'") != std::string::npos);
  CHECK(with("colour", "blue").find("unknown metadata 'colour'") != std::string::npos);
  CHECK(with("options.batch", "0").find("batch") != std::string::npos);
  const auto says = [&](const std::string& name, const std::string& value, const std::string& part) {
    const std::string text = with(name, value);
    CAPTURE(text);
    CHECK(text.find(part) != std::string::npos);
  };
  says("options.batch", "32", "as a checkpoint: its settings differ: batch: 32 in the checkpoint, 16 here");
  says("options.schedule.shape", "constant", "schedule.shape: constant in the checkpoint, cosine here");
  says("options.optimizer.decoupled_weight_decay", "false",
       "optimizer.decoupled_weight_decay: false in the checkpoint, true here");
  says("options.optimizer.decoupled_weight_decay", "1", "is '1', expected true or false");
  says("options.schedule.shape", "linear", "is 'linear', expected constant, cosine or inverse_square_root");
  says("options.batch", "1.5", "metadata options.batch is '1.5', expected a whole number");
  says("options.smoothing", "x", "metadata options.smoothing is 'x', expected a finite number in hexadecimal");
  says("optimizer.skipped", "1", "20 steps, of which 20 updated, 1 were skipped and 0 of these came last");
  CHECK(with("state.position", "9223372036854775807").find("position") != std::string::npos);
  CHECK_FALSE(with("state.step", "99999999999999999999").empty());
  CHECK(with("state.step", "-9223372036854775808").find("step") != std::string::npos);
  CHECK(with("optimizer.updates", "-1").find("counters") != std::string::npos);

  // Each setting that differs, and no other.
  ln::trainer_options changed = tiny::options();
  changed.schedule.peak = 0.1;
  changed.optimiser.beta2 = 0.98;
  changed.epochs = 4;
  changed.seed = 6;
  good.write(path);
  trainer other{model{}, changed};
  const auto before = tiny::snapshot(other);
  CHECK_THROWS_WITH_AS(
      ln::checkpoint{path}.load(other),
      ("lightnet: " + path.string() +
       ": as a checkpoint: its settings differ: seed: 5 in the checkpoint, 6 here; epochs: 3 in the "
       "checkpoint, 4 here; optimizer.beta2: 0.999 in the checkpoint, 0.98 here; schedule.peak: 0.05 in "
       "the checkpoint, 0.1 here")
          .c_str(),
      ln::file_error);
  CHECK(tiny::snapshot(other) == before);

  parts none = good;
  none.metadata.clear();
  none.write(path);
  CHECK(refusal(path).find("no metadata format") != std::string::npos);
}

TEST_CASE("checkpoint: a file that cannot be written stays as it was") {
  const folder here;
  const auto path = here / "a.safetensors";
  ln::save_checkpoint(path, begun());
  const auto before = contents(path);
  CHECK_THROWS_AS(ln::save_checkpoint(here / "none" / "a.safetensors", begun()), ln::file_error);
  ln::checkpoint_extras twice;
  const std::vector<double> numbers{1};
  twice.tensors.assign(2, ln::store("x", {1}, std::span<const double>(numbers)));
  CHECK_THROWS_AS(ln::save_checkpoint(path, begun(), twice), ln::value_error);
  CHECK(contents(path) == before);
  CHECK(std::distance(fs::directory_iterator(here.path), fs::directory_iterator()) == 1);
}

#endif
