// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <fcntl.h>
#include <png.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "../temporary_folder.hpp"
#include "common/bytes.hpp"
#include "common/curve_picture.hpp"
#include "common/program.hpp"
#include "common/progress.hpp"
#include "common/text.hpp"
#include "picture.hpp"

namespace fs = std::filesystem;

namespace {

/// A variable of the environment with another value for a while.
class variable {
 public:
  variable(const char* name, const std::string& value) : name_{name} {
    if (const char* const before = std::getenv(name)) before_ = before;
    ::setenv(name, value.c_str(), 1);
  }
  variable(const variable&) = delete;
  variable& operator=(const variable&) = delete;
  ~variable() { before_ ? ::setenv(name_, before_->c_str(), 1) : ::unsetenv(name_); }

 private:
  const char* name_;
  std::optional<std::string> before_;
};

/// A terminal, so many columns wide, that nobody looks at.
class terminal {
 public:
  explicit terminal(unsigned short columns) : screen_{::posix_openpt(O_RDWR | O_NOCTTY)} {
    REQUIRE(screen_ >= 0);
    REQUIRE(::grantpt(screen_) == 0);
    REQUIRE(::unlockpt(screen_) == 0);
    const ::winsize size{24, columns, 0, 0};
    REQUIRE(::ioctl(screen_, TIOCSWINSZ, &size) == 0);
  }
  terminal(const terminal&) = delete;
  terminal& operator=(const terminal&) = delete;
  ~terminal() { ::close(screen_); }

  /// What a training of 60 updates with a test in the middle writes there.
  [[nodiscard]] std::string shown(const std::string& kind, const std::string& locale) const {
    const variable term{"TERM", kind}, language{"LC_ALL", locale}, colours{"NO_COLOR", "1"};
    auto* const stream = std::fopen(::ptsname(screen_), "w");
    REQUIRE(stream != nullptr);
    {
      examples::progress_bar bar(stream, 60, 30, 128);
      for (int step = 1; step <= 60; ++step) {
        bar.update(step, 1.5, 0.25);
        if (step == 30) bar.test(1.25, 0.5);
      }
    }
    std::fclose(stream);
    std::string text;
    std::array<char, 4096> part{};
    for (ssize_t size = 0; (size = ::read(screen_, part.data(), part.size())) > 0;) {
      text.append(part.data(), static_cast<std::size_t>(size));
    }
    return text;
  }

 private:
  int screen_;
};

std::size_t files_in(const fs::path& place) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(place), fs::directory_iterator()));
}

}  // namespace

TEST_CASE("picture: a PNG that libpng reads back") {
  const folder here;
  const auto path = here / "result.png";
  const std::vector<std::uint8_t> pixels(std::size_t{3} * 5 * 7, 200);
  const std::vector<std::int32_t> truth{0, 1, 2};
  std::vector<std::int32_t> predicted{0, 2, 2};
  fashion_mnist::figure figure;
  figure.title = "every glyph: ";
  for (char character = 32; character < 127; ++character) figure.title += character;
  figure.subtitle = "and what is none: \xc3\xa9\n";
  figure.facts = {{"66.7 %", "accuracy"}};
  figure.classes = {"first", "second", "third"};
  figure.confusion = {1, 0, 0, 0, 0, 12345, 0, 0, 0};
  figure.rows = 5;
  figure.columns = 7;
  figure.pixels = pixels;
  figure.predicted = predicted;
  figure.truth = truth;
  fashion_mnist::write_picture(path, figure);

  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  REQUIRE(png_image_begin_read_from_file(&image, path.c_str()) != 0);
  image.format = PNG_FORMAT_RGB;
  std::vector<std::uint8_t> read(PNG_IMAGE_SIZE(image));
  REQUIRE(png_image_finish_read(&image, nullptr, read.data(), 0, nullptr) != 0);
  CHECK(read == fashion_mnist::draw(figure).bytes());

  const auto before = contents(path);
  predicted[1] = 3;
  CHECK_THROWS_AS(fashion_mnist::write_picture(path, figure), lightnet::value_error);
  predicted[1] = 2;
  figure.pixels = figure.pixels.first(104);
  CHECK_THROWS_AS(fashion_mnist::write_picture(path, figure), lightnet::shape_error);
  figure.pixels = pixels;
  figure.confusion.pop_back();
  CHECK_THROWS_AS(fashion_mnist::write_picture(path, figure), lightnet::shape_error);
  figure.confusion.push_back(0);
  CHECK_THROWS_AS(fashion_mnist::write_picture(here / "missing" / "result.png", figure), lightnet::file_error);
  CHECK(contents(path) == before);
}

TEST_CASE("picture: every share of the heat map is lighter than the one before") {
  const auto luminance = [](examples::colour c) { return 0.2126 * c.red + 0.7152 * c.green + 0.0722 * c.blue; };
  for (int i = 0; i < 100; ++i) {
    CAPTURE(i);
    CHECK(luminance(fashion_mnist::detail::heat(i / 100.0)) < luminance(fashion_mnist::detail::heat((i + 1) / 100.0)));
  }
  CHECK(examples::grouped(0) == "0");
  CHECK(examples::grouped(999) == "999");
  CHECK(examples::grouped(-123456) == "-123,456");
  CHECK(examples::grouped(1234567) == "1,234,567");
}

TEST_CASE("output: places where nothing can be left are known before, and stay as they are") {
  const folder here;
  const auto check = [](const fs::path& place) { examples::check_output(place, "a", {".csv", "_curve.png"}); };
  const auto refuses = [&](const fs::path& place, const std::string& message) {
    CAPTURE(place);
    CHECK_THROWS_WITH_AS(check(place), doctest::Contains(message.c_str()), lightnet::file_error);
  };
  std::ofstream(here / "file") << "old";
  fs::create_directories(here / "taken" / "a_curve.png");
  fs::create_directories(here / "full");
  std::ofstream(here / "full" / "a.csv") << "old";
  fs::create_symlink("nowhere", here / "link");
  check(here / "full");
  check(here / "new" / "and" / "newer");
  check(here / "new/");
  refuses(here / "file", (here / "file").string() + ": is no folder");
  refuses(here / "link", "link: is no folder");
  refuses(here / "file" / "below" / "it", "Not a directory");
  refuses(here / "taken", "a_curve.png: cannot be written: it is a directory");
  refuses("/proc", "/proc/a.csv: cannot create");
  refuses("/proc/new/newer", "/proc/new: cannot create");
  if (::geteuid() != 0) {
    fs::permissions(here / "full", fs::perms::owner_read | fs::perms::owner_exec);
    refuses(here / "full", "a.csv: cannot create");
    refuses(here / "full" / "new", "new: cannot create");
    fs::permissions(here / "full", fs::perms::owner_all);
  }
  CHECK(here.files() == 4);
  CHECK(files_in(here / "full") == 1);
  CHECK(files_in(here / "taken") == 1);
  CHECK(contents(here / "full" / "a.csv") == "old");
}

TEST_CASE("texts: a regular file, or nothing is read") {
  const folder here;
  const auto pipe = here / "pipe", file = here / "file";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  std::ofstream(file) << "a text";
  fs::create_symlink("file", here / "link");
  CHECK(examples::file_text(file) == "a text");
  CHECK(examples::file_text(here / "link") == "a text");
  const auto refuses = [](const std::string& path, const std::string& message) {
    CHECK_THROWS_WITH_AS((void)examples::file_text(path), doctest::Contains((path + ": " + message).c_str()),
                         lightnet::file_error);
  };
  refuses(pipe, "is a pipe, expected a regular file");
  refuses(here.path, "is a folder, expected a regular file");
  refuses("/dev/null", "is a device or a socket, expected a regular file");
  refuses(here / "none", "cannot be opened");
}

TEST_CASE("curve: text, and numbers that lead back") {
  const folder here;
  std::vector<examples::curve_point> curve(2);
  curve[0] = {1, 10, 2.25, 0.1, 0.003, 1234.5, std::nan(""), std::nan("")};
  curve[1] = {1, 20, 1.0 / 3, 0.5, 1e-9, 2000, 0.75, 0.8731};
  const std::string text =
      "epoch,step,loss,train_accuracy,learning_rate,items_per_second,test_loss,test_accuracy\n"
      "1,10,2.25,0.1,0.003,1234.5,,\n"
      "1,20,0.3333333333333333,0.5,1e-09,2000,0.75,0.8731\n";
  examples::write_curve(here / "curve.csv", curve);
  CHECK(contents(here / "curve.csv") == text);

  const auto values = examples::curve_values(curve);
  CHECK(values.size() == 16);
  CHECK(examples::curve_text(examples::curve_from_values(values)) == text);
  CHECK_THROWS_AS((void)examples::curve_from_values(std::span(values).first(13)), lightnet::shape_error);
  for (const double wrong : {-1.0, 0.5, 1e300, std::nan("")}) {
    auto damaged = values;
    damaged[8] = wrong;
    CHECK_THROWS_AS((void)examples::curve_from_values(damaged), lightnet::value_error);
  }
}

TEST_CASE("curve: a picture beside it where there is a gnuplot, and nothing where there is none or it fails") {
  const folder here, programs;
  std::vector<examples::curve_point> curve(2);
  const double none = std::nan("");
  curve[0] = {1, 10, 2.25, none, 0.003, 1234.5, none, none};
  curve[1] = {1, 20, 1.5, none, 0.002, 1234.5, 1.75, none};
  const auto csv = here / "it's.csv", png = here / "it's_curve.png";
  examples::write_curve(csv, curve);
  const auto commands = examples::detail::curve_commands(csv, png, curve);
  CHECK(commands.find("set output '" + (here / "it''s_curve.png").string() + "'") != std::string::npos);
  CHECK(commands.find("using 2:3") != std::string::npos);
  CHECK(commands.find("using 2:7") != std::string::npos);
  CHECK(commands.find("y2") == std::string::npos);  // no accuracy
  {
    const variable nowhere{"PATH", programs.path};
    CHECK_FALSE(examples::draw_curve(csv, curve));
    CHECK(files_in(here.path) == 1);
  }
  const auto install = [&](const std::string& body) {
    std::ofstream(programs / "gnuplot") << "#!/bin/sh\nfor word; do :; done\n"
                                           "to=${word#*set output \\'}; to=${to%%.png\\'*}.png\n"
                                        << body;
    fs::permissions(programs / "gnuplot", fs::perms::owner_all);
  };
  const std::string found = programs.path + ":" + std::getenv("PATH");
  {
    install("echo picture >\"$(echo \"$to\" | sed \"s/''/'/\")\"\n");
    const variable here_first{"PATH", found};
    CHECK(examples::draw_curve(csv, curve) == png);
    CHECK(contents(png) == "picture\n");
    CHECK(files_in(here.path) == 2);
    install("echo half >\"$(echo \"$to\" | sed \"s/''/'/\")\"; exit 1\n");
    CHECK_FALSE(examples::draw_curve(csv, curve));
    CHECK(contents(png) == "picture\n");
    CHECK(files_in(here.path) == 2);
  }
  if (!examples::detail::succeeds({"gnuplot", "--version"})) {
    MESSAGE("gnuplot is not installed");
    return;
  }
  for (const double accuracy : {none, 0.5}) {
    curve[1].train_accuracy = curve[1].test_accuracy = accuracy;
    examples::write_curve(csv, curve);
    REQUIRE(examples::draw_curve(csv, curve) == png);
    png_image image{};
    image.version = PNG_IMAGE_VERSION;
    REQUIRE(png_image_begin_read_from_file(&image, png.c_str()) != 0);
    CHECK(image.width == 960);
    CHECK(image.height == 540);
    png_image_free(&image);
  }
}

TEST_CASE("progress: plain lines where there is no terminal") {
  const folder here;
  const auto path = here / "log";
  auto* const stream = std::fopen(path.c_str(), "w");
  REQUIRE(stream != nullptr);
  {
    examples::progress_bar bar(stream, 60, 30, 128, 15);
    bar.message("resumed");
    for (int step = 16; step <= 60; ++step) bar.update(step, 1.5, 0.25);
    bar.test(1.25, 0.5);
  }
  std::fclose(stream);
  const auto text = contents(path);
  CHECK(std::count(text.begin(), text.end(), '\n') == 1 + 5 + 10 + 1);
  CHECK(text.find('\x1b') == std::string::npos);
  CHECK(text.find('\r') == std::string::npos);
  CHECK(text.find("resumed\nepoch 1/2  step 18/30  loss 1.5000  accuracy 25.00 %  ") == 0);
  CHECK(text.find("epoch 2/2  step 30/30  loss 1.5000") != std::string::npos);
  CHECK(text.find("update 60  held out: loss 1.2500  accuracy 50.00 %\n") != std::string::npos);
}

TEST_CASE("progress: a bar on a terminal") {
  const terminal screen{64};
  CHECK(screen.shown("xterm", "C").find("[####") != std::string::npos);
  CHECK(screen.shown("xterm", "C.UTF-8").find("\u2588\u2588") != std::string::npos);
  const auto text = screen.shown("xterm", "C");
  CHECK(text.find("update 30  held out: loss 1.2500  accuracy 50.00 %\r\n") != std::string::npos);
  CHECK(text.find("step 18/30") == std::string::npos);  // no plain lines
  CHECK(text.ends_with("\r\n"));
  // What is drawn is drawn over what was there, and no line is wider than the terminal.
  for (std::size_t first = 0, end = 0; (end = text.find_first_of("\r\n", first)) != std::string::npos;
       first = end + 1) {
    CHECK(end - first <= 63 + std::string_view{"\x1b[K"}.size());
  }
  CHECK(std::count(text.begin(), text.end(), '\n') == 2);
  CHECK(screen.shown("dumb", "C").find('\x1b') == std::string::npos);
  CHECK(screen.shown("dumb", "C").find("epoch 1/2  step 3/30") != std::string::npos);
}
