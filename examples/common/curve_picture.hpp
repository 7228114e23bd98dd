// SPDX-License-Identifier: Apache-2.0
#pragma once

// The learning curve as a picture, where gnuplot is installed.

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include "curve.hpp"

namespace examples {

namespace detail {

/// A text as gnuplot reads it.
inline std::string quoted(const std::string& text) {
  std::string all = "'";
  for (const char each : text) all.append(each == '\'' ? 2 : 1, each);
  return all + "'";
}

/// What gnuplot is told: the loss on the left and, where there are answers that are right or wrong, their share on the right.
inline std::string curve_commands(const std::filesystem::path& csv, const std::filesystem::path& png,
                                  std::span<const curve_point> curve) {
  const auto measured = [&](double curve_point::*value) {
    return std::ranges::any_of(curve, [value](const curve_point& point) { return std::isfinite(point.*value); });
  };
  std::string commands =
      "if (strstrt(GPVAL_TERMINALS, 'pngcairo')) { set terminal pngcairo size 960,540 } else { set terminal png size "
      "960,540 }; set datafile separator ','; set xlabel 'update'; set ylabel 'loss'; set ytics nomirror; set grid; "
      "set key right center; set title " +
      quoted(csv.stem().string()) + " noenhanced; set output " + quoted(png.string()) + "; ";
  if (measured(&curve_point::train_accuracy) || measured(&curve_point::test_accuracy)) {
    commands += "set y2label 'accuracy, %'; set y2tics; ";
  }
  std::string separator = "plot ";
  const auto plot = [&](double curve_point::*value, const char* how) {
    if (!measured(value)) return;
    commands += separator + quoted(csv.string()) + " every ::1 using 2:" + how;
    separator = ", ";
  };
  plot(&curve_point::loss, "3 with lines lw 2 lc rgb '#0969da' title 'loss'");
  plot(&curve_point::test_loss, "7 with points pt 7 lc rgb '#0a3069' title 'loss, test'");
  plot(&curve_point::train_accuracy, "(100 * $4) axes x1y2 with lines lw 2 lc rgb '#4ac26b' title 'accuracy'");
  plot(&curve_point::test_accuracy, "(100 * $8) axes x1y2 with points pt 7 lc rgb '#116329' title 'accuracy, test'");
  return commands;
}

/// Runs a program of the PATH and hears nothing of it. Says whether it is there and succeeds.
inline bool succeeds(std::vector<std::string> words) {
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  if (::posix_spawn_file_actions_init(&actions) != 0) return false;
  for (const int stream : {0, 1, 2}) ::posix_spawn_file_actions_addopen(&actions, stream, "/dev/null", O_RDWR, 0);
  ::pid_t child = 0;
  const bool started = ::posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), ::environ) == 0;
  ::posix_spawn_file_actions_destroy(&actions);
  int status = 0;
  return started && ::waitpid(child, &status, 0) == child && status == 0;
}

}  // namespace detail

/// Draws the curve that `write_curve` wrote as NAME.csv beside it, as NAME_curve.png, and gives the path; nothing where gnuplot
/// is missing or fails, and then leaves an old picture as it was.
inline std::optional<std::filesystem::path> draw_curve(const std::filesystem::path& csv,
                                                       std::span<const curve_point> curve) {
  auto png = csv, unfinished = csv;
  png.replace_filename(csv.stem().string() + "_curve.png");
  unfinished.replace_extension(".unfinished.png");
  std::error_code failed;
  if (detail::succeeds({"gnuplot", "-e", detail::curve_commands(csv, unfinished, curve)})) {
    std::filesystem::rename(unfinished, png, failed);
    if (!failed) return png;
  }
  std::filesystem::remove(unfinished, failed);
  return std::nullopt;
}

}  // namespace examples
