// SPDX-License-Identifier: Apache-2.0
#pragma once

// One live line on a terminal; plain lines, ten an epoch, anywhere else.

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

namespace examples {

/// What the numbers of a bar are of.
struct progress_words {
  const char* loss = "loss";
  const char* items = "images";
  double loss_scale = 1;  // from the loss to what is shown of it
};

/// Shows how training goes. The bar hides no cursor and leaves no colour switched on, so that whatever ends the program
/// leaves a usable terminal.
class progress_bar {
 public:
  /// Counts `total_steps` of `batch` items each, of which `first_step` lie behind where training resumes.
  progress_bar(std::FILE* stream, std::int64_t total_steps, std::int64_t steps_per_epoch, std::int64_t batch,
               std::int64_t first_step = 0, const progress_words& words = {})
      : stream_(stream),
        total_(std::max<std::int64_t>(total_steps, 1)),
        per_epoch_(std::max<std::int64_t>(steps_per_epoch, 1)),
        batch_(batch),
        step_(first_step),
        words_(words),
        live_(::isatty(::fileno(stream)) == 1 && variable("TERM") != "dumb" && !variable("TERM").empty()),
        coloured_(live_ && variable("NO_COLOR").empty()),
        blocks_(live_ && locale_is_utf8() && variable("TERM") != "linux") {}
  progress_bar(const progress_bar&) = delete;
  progress_bar& operator=(const progress_bar&) = delete;
  ~progress_bar() { finish(); }

  /// After a step: `steps_done` of the whole training, the loss, and the share of right answers from 0 to 1, or what is no
  /// number where nothing is answered, here and in `test`.
  void update(std::int64_t steps_done, double loss, double accuracy) {
    const auto now = clock::now();
    const auto steps = static_cast<double>(steps_done - step_);
    const double seconds = std::chrono::duration<double>(now - last_step_).count();
    // The rate of the last seconds counts most; where training stood still for an evaluation, the clock did too.
    constexpr double memory = 5;
    const double kept = std::exp(-seconds / memory);
    recent_steps_ = recent_steps_ * kept + steps;
    recent_seconds_ = recent_seconds_ * kept + seconds;
    const auto tenth_before = tenth(step_);
    last_step_ = now;
    step_ = steps_done;
    loss_ = loss;
    accuracy_ = accuracy;
    if (live_) {
      constexpr std::chrono::milliseconds refresh{100};
      if (now - last_drawn_ < refresh && step_ < total_) return;
      last_drawn_ = now;
      draw();
    } else if (tenth(step_) != tenth_before || step_ == total_) {
      write(plain_line() + "\n");
    }
  }

  /// After a test on what is held out: a line that stays. Time spent since the last update does not count as training.
  void test(double loss, double accuracy) {
    message("update " + std::to_string(step_) + "  held out: " + shown_loss("%.4f", loss) + of_answers(accuracy));
    last_step_ = clock::now();
  }

  /// Prints a line above the bar.
  void message(std::string_view line) {
    write((live_ ? "\r\x1b[K" : "") + std::string(line) + "\n");
    if (drawn_) draw();
  }

  /// Leaves the bar as it is and goes to the next line; nothing more is drawn over it.
  void finish() {
    if (!drawn_) return;
    draw();
    write("\n");
    drawn_ = false;
  }

  /// Over the last seconds.
  [[nodiscard]] double items_per_second() const {
    return recent_seconds_ > 0 ? recent_steps_ * static_cast<double>(batch_) / recent_seconds_ : 0;
  }

 private:
  using clock = std::chrono::steady_clock;

  static std::string_view variable(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? std::string_view{} : std::string_view{value};
  }

  static bool locale_is_utf8() {
    for (const auto* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {  // the first one that is set decides
      const auto value = variable(name);
      if (value.empty()) continue;
      for (const std::string_view spelling : {"UTF-8", "utf-8", "UTF8", "utf8"}) {
        if (value.find(spelling) != std::string_view::npos) return true;
      }
      return false;
    }
    return false;
  }

  static std::string number(const char* format, double value) {
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), format, value);
    return text.data();
  }
  [[nodiscard]] std::string shown_loss(const char* format, double loss) const {
    return std::string{words_.loss} + " " + number(format, words_.loss_scale * loss);
  }
  static std::string of_answers(double accuracy) {
    return std::isnan(accuracy) ? "" : "  accuracy " + percent(accuracy);
  }
  static std::string percent(double share) { return number("%.2f %%", 100 * share); }

  static std::string duration(double seconds) {
    const auto whole = std::llround(std::clamp(seconds, 0.0, 3.6e8));
    std::array<char, 64> text{};
    if (whole >= 3600) {
      std::snprintf(text.data(), text.size(), "%lld:%02lld:%02lld", whole / 3600, whole / 60 % 60, whole % 60);
    } else {
      std::snprintf(text.data(), text.size(), "%lld:%02lld", whole / 60, whole % 60);
    }
    return text.data();
  }

  [[nodiscard]] std::int64_t epochs() const { return (total_ + per_epoch_ - 1) / per_epoch_; }
  /// The epoch of the last step, from 1.
  [[nodiscard]] std::int64_t epoch() const { return step_ <= 0 ? 1 : (step_ - 1) / per_epoch_ + 1; }
  [[nodiscard]] std::int64_t step_in_epoch() const { return step_ <= 0 ? 0 : (step_ - 1) % per_epoch_ + 1; }
  [[nodiscard]] std::int64_t tenth(std::int64_t step) const {
    return step / per_epoch_ * 10 + step % per_epoch_ * 10 / per_epoch_;
  }
  [[nodiscard]] std::string time_left() const {
    const auto items = static_cast<double>((total_ - step_) * batch_);
    const double rate = items_per_second();
    return step_ >= total_ ? "0:00" : rate > 0 ? duration(items / rate) : "-:--";
  }

  [[nodiscard]] std::string plain_line() const {
    return "epoch " + std::to_string(epoch()) + "/" + std::to_string(epochs()) + "  step " +
           std::to_string(step_in_epoch()) + "/" + std::to_string(per_epoch_) + "  " + shown_loss("%.4f", loss_) +
           of_answers(accuracy_) + "  " + number("%.0f", items_per_second()) + " " + words_.items + "/s  " +
           time_left() + " left";
  }

  [[nodiscard]] int columns() const {
    ::winsize size{};
    return ::ioctl(::fileno(stream_), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
  }

  void draw() {
    struct field {
      int importance;  // what matters least goes first where the line is too short
      std::string text;
      std::string brief;
    };
    // Widths that do not change with the numbers keep the line still.
    const auto of = [](std::int64_t value, std::int64_t limit) {
      auto text = std::to_string(value);
      const auto end = std::to_string(limit);
      text.insert(0, end.size() - std::min(end.size(), text.size()), ' ');
      return text + "/" + end;
    };
    const auto epoch_text = "epoch " + of(epoch(), epochs());
    const auto step_text = "step " + of(step_in_epoch(), per_epoch_);
    const auto loss_text = shown_loss("%6.4f", loss_);
    const auto accuracy_text = number("%4.1f %%", 100 * accuracy_);
    const auto rate_text = number("%4.0f", items_per_second());
    const auto left_text = time_left() + " left";
    std::vector<field> fields{{6, epoch_text, epoch_text},
                              {2, step_text, step_text},
                              {5, loss_text, loss_text},
                              {4, "accuracy " + accuracy_text, "acc " + accuracy_text},
                              {1, rate_text + " " + words_.items + "/s", rate_text + "/s"},
                              {3, left_text, left_text}};
    if (std::isnan(accuracy_)) fields.erase(fields.begin() + 3);
    constexpr std::size_t narrowest_bar = 8, widest_bar = 40, gap = 2;
    const auto width = static_cast<std::size_t>(columns() - 1);  // a full line would wrap
    const auto needed = [&] {
      std::size_t sum = 0;
      for (const auto& field : fields) sum += field.text.size() + gap;
      return sum;
    };
    if (needed() + narrowest_bar > width) {
      for (auto& field : fields) field.text = field.brief;
    }
    while (fields.size() > 1 && needed() + narrowest_bar > width) {
      fields.erase(std::ranges::min_element(fields, {}, &field::importance));
    }
    std::string line = "\r" + fields.front().text.substr(0, width);
    if (needed() + narrowest_bar <= width) {
      line += "  " + bar(std::min(width - needed(), widest_bar));
      for (std::size_t i = 1; i < fields.size(); ++i) line += "  " + fields[i].text;
    }
    write(line + "\x1b[K");
    drawn_ = true;
  }

  /// The bar, `width` columns wide.
  [[nodiscard]] std::string bar(std::size_t width) const {
    const double share = std::clamp(static_cast<double>(step_) / static_cast<double>(total_), 0.0, 1.0);
    if (!blocks_) {
      const auto full = static_cast<std::size_t>(share * static_cast<double>(width - 2));
      return "[" + std::string(full, '#') + std::string(width - 2 - full, '.') + "]";
    }
    constexpr std::array<const char*, 8> eighths{"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    const auto filled = static_cast<std::size_t>(share * 8 * static_cast<double>(width));
    std::string text = coloured_ ? "\x1b[36;48;5;238m" : "";
    std::size_t used = 0;
    for (; used < filled / 8; ++used) text += "█";
    if (filled % 8 != 0) {
      text += eighths[filled % 8];
      ++used;
    }
    for (; used < width; ++used) text += coloured_ ? " " : "░";
    return text + (coloured_ ? "\x1b[0m" : "");
  }

  /// One call a line, so that lines of others do not come between.
  void write(const std::string& text) const {
    std::fwrite(text.data(), 1, text.size(), stream_);
    std::fflush(stream_);
  }

  std::FILE* stream_;
  std::int64_t total_;
  std::int64_t per_epoch_;
  std::int64_t batch_;
  std::int64_t step_;
  progress_words words_;
  bool live_;
  bool coloured_;
  bool blocks_;
  bool drawn_ = false;
  double loss_ = 0;
  double accuracy_ = 0;
  double recent_steps_ = 0;
  double recent_seconds_ = 0;
  clock::time_point last_step_ = clock::now();
  clock::time_point last_drawn_{};
};

}  // namespace examples
