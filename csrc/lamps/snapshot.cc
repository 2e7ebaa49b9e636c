// SPDX-License-Identifier: Apache-2.0
#include "lamps/snapshot.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <system_error>

#include "lamps/errors.h"

namespace lamps {
namespace {

constexpr std::string_view kHeader = "lamps-predictions 1\n";
constexpr std::string_view kName = "lamps-predictions ";
constexpr std::array<std::string_view, 8> kTableNames = {
    "tool", "prompt", "gap", "kind", "out-turn", "out-prompt", "out-gap", "out-all"};
constexpr double kMostSeen = 1.0e15;  // of any number in a snapshot

std::uint64_t fnv1a(std::string_view bytes, std::uint64_t hash = 0xcbf29ce484222325ULL) {
  for (const char byte : bytes) {
    hash ^= static_cast<unsigned char>(byte);
    hash *= 0x100000001b3ULL;
  }
  return hash;
}

template <typename Number>
void append(std::string& out, Number value) {
  std::array<char, 32> buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr;
  out.append(buffer.data(), end);
}

void append_hex(std::string& out, std::uint64_t value) {
  std::array<char, 16> buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, 16).ptr;
  out.append(buffer.data(), end);
}

bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_' || c == '.';
}

void append_name(std::string& out, std::string_view name) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  for (const char c : name) {
    if (is_plain(c)) {
      out += c;
    } else {
      out += '%';
      out += kDigits[static_cast<unsigned char>(c) >> 4];
      out += kDigits[static_cast<unsigned char>(c) & 15];
    }
  }
  if (name.empty()) out += '%';
}

}  // namespace

std::string SnapshotWriter::next(std::size_t most) {
  if (state_ == State::kDone) return {};
  std::string out;
  if (state_ == State::kStart) {
    out = kHeader;
    checksum_ = fnv1a({});
    state_ = State::kLevels;
  }
  for (std::size_t written = 0; written < most && table_ < kTableNames.size();) {
    if (index_ < predictor_->tables_[table_].size()) {
      write_level(table_, index_++, out);
      ++written;
    } else {
      ++table_;
      index_ = 0;
    }
  }
  if (table_ == kTableNames.size()) {
    write_rest(out);
    const std::uint64_t checksum = fnv1a(out, checksum_);
    out += "end ";
    append_hex(out, checksum);
    out += '\n';
    state_ = State::kDone;
  } else {
    checksum_ = fnv1a(out, checksum_);
  }
  return out;
}

void SnapshotWriter::write_level(std::size_t table, std::size_t index, std::string& out) const {
  const LevelTable& levels = predictor_->tables_[table];
  const Level& level = levels.level(index);
  out += kTableNames[table];
  out += ' ';
  if (table == Predictor::kByTool) {
    append_name(out, predictor_->tool_names_[levels.key_of(index)]);
  } else {
    append(out, levels.key_of(index));
  }
  out += level.off() ? " 1 " : " 0 ";
  append(out, level.gain());
  out += ' ';
  append(out, level.returns.returned);
  out += ' ';
  append(out, level.returns.ended);
  for (std::size_t bin = 0; bin < LogHistogram::kBins; ++bin) {
    const LogHistogram::Mass mass = level.seen().in_bin(bin);
    if (mass.weight <= 0.0) continue;
    out += ' ';
    append(out, bin);
    out += ':';
    append(out, mass.weight);
    out += ':';
    append(out, std::max(mass.sum, 0.0));
  }
  out += '\n';
}

void SnapshotWriter::write_rest(std::string& out) const {
  for (std::size_t kind = 0; kind < kCallKinds; ++kind) {
    for (std::size_t turn = 0; turn < Predictor::kTurnBuckets; ++turn) {
      const ReturnCount& count = predictor_->return_by_turn_[kind][turn];
      out += "turn ";
      append(out, kind);
      out += ' ';
      append(out, turn);
      out += ' ';
      append(out, count.returned);
      out += ' ';
      append(out, count.ended);
      out += '\n';
    }
  }
  predictor_->prompts_.each_class([&](ClassId id, std::uint64_t beginning) {
    out += "class ";
    append(out, id);
    out += ' ';
    append_hex(out, beginning);
    out += predictor_->prompt_calls_tools_[static_cast<std::size_t>(id)] ? " 1\n" : " 0\n";
  });
}

class SnapshotReader {
 public:
  explicit SnapshotReader(std::string_view body) : rest_(body) {}

  Predictor read() {
    while (!rest_.empty()) {
      ++line_;
      const std::size_t end = rest_.find('\n');
      fields_ = rest_.substr(0, end);
      rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end + 1);
      const std::string_view what = word("the name of a table");
      if (what == "turn") {
        read_turn();
      } else if (what == "class") {
        read_class();
      } else {
        read_level(what);
      }
      if (!fields_.empty()) fail("the end of the line");
    }
    return std::move(predictor_);
  }

 private:
  [[noreturn]] void fail(const std::string& expected) const {
    throw BadSnapshot("snapshot of predictions, line " + std::to_string(line_) + ", at '" +
                      std::string(fields_.substr(0, 20)) + "': expected " + expected);
  }

  std::string_view word(const char* expected, char separator = ' ') {
    if (fields_.empty()) fail(expected);
    const std::size_t end = fields_.find(separator);
    const std::string_view found = fields_.substr(0, end);
    fields_.remove_prefix(end == std::string_view::npos ? fields_.size() : end + 1);
    return found;
  }

  double number(const char* expected, double low, char separator = ' ') {
    const std::string_view text = word(expected, separator);
    double value = 0.0;
    const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
    if (result.ec != std::errc() || result.ptr != text.data() + text.size() ||
        !(value >= low && value <= kMostSeen)) {
      fail(expected);
    }
    return value;
  }

  std::size_t index(const char* expected, std::size_t end, char separator = ' ', int base = 10) {
    const std::string_view text = word(expected, separator);
    std::size_t value = 0;
    const auto result = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (result.ec != std::errc() || result.ptr != text.data() + text.size() || value >= end) {
      fail(std::string(expected) + " below " + std::to_string(end));
    }
    return value;
  }

  std::string name() {
    std::string_view text = word("the name of a tool");
    std::string out;
    if (text == "%") return out;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '%') {
        out += text[i];
        continue;
      }
      unsigned value = 0;
      if (i + 2 >= text.size() ||
          std::from_chars(text.data() + i + 1, text.data() + i + 3, value, 16).ptr !=
              text.data() + i + 3) {
        fail("%XX in the name of a tool");
      }
      out += static_cast<char>(value);
      i += 2;
    }
    return out;
  }

  void read_level(std::string_view what) {
    std::size_t table = 0;
    while (table < kTableNames.size() && kTableNames[table] != what) ++table;
    if (table == kTableNames.size()) fail("the name of a table before it");
    const std::size_t key = table == Predictor::kByTool
                                ? static_cast<std::size_t>(predictor_.tool_id(name()))
                                : index("a key", SIZE_MAX);
    Level* level = predictor_.tables_[table].at(key);
    if (level == nullptr) fail("a key in the range of the table, and not too many of them");
    const bool off = index("0 or 1", 2) == 1;
    level->restore(off, number("a gain", -kMostSeen));
    level->returns.returned = number("a number of returns >= 0", 0.0);
    level->returns.ended = number("a number of ends >= 0", 0.0);
    while (!fields_.empty()) {
      const std::size_t bin = index("a bin", LogHistogram::kBins, ':');
      const double weight = number("a number of observations >= 0", 0.0, ':');
      level->seen().add(bin, {weight, number("their sum >= 0", 0.0)});
    }
  }

  void read_turn() {
    const std::size_t kind = index("a kind of call", kCallKinds);
    const std::size_t turn = index("a turn", Predictor::kTurnBuckets);
    ReturnCount& count = predictor_.return_by_turn_[kind][turn];
    count.returned = number("a number of returns >= 0", 0.0);
    count.ended = number("a number of ends >= 0", 0.0);
  }

  void read_class() {
    const std::size_t id = index("a class", static_cast<std::size_t>(PromptClasses::kMostClasses));
    const std::size_t beginning = index("a hash in hex", SIZE_MAX, ' ', 16);
    predictor_.prompts_.restore(static_cast<ClassId>(id), beginning);
    predictor_.prompt_calls_tools_[id] = index("0 or 1", 2) == 1;
  }

  Predictor predictor_;
  std::string_view rest_;
  std::string_view fields_;
  std::size_t line_ = 1;  // the header's
};

Predictor read_snapshot(std::string_view snapshot) {
  if (!snapshot.starts_with(kName)) {
    throw BadSnapshot("snapshot of predictions: it begins with '" +
                      std::string(snapshot.substr(0, kName.size())) + "': expected '" +
                      std::string(kName) + "1'");
  }
  if (!snapshot.starts_with(kHeader)) {
    const std::string_view version =
        snapshot.substr(kName.size(), snapshot.find('\n') - kName.size());
    throw BadSnapshot("snapshot of predictions: version '" + std::string(version) +
                      "': expected 1");
  }
  const std::size_t last = snapshot.rfind("\nend ");
  if (last == std::string_view::npos || snapshot.back() != '\n') {
    throw BadSnapshot("snapshot of predictions: cut short after " +
                      std::to_string(snapshot.size()) + " bytes: expected a last line 'end ...'");
  }
  const std::string_view body = snapshot.substr(0, last + 1);
  std::string expected = "end ";
  append_hex(expected, fnv1a(body));
  expected += '\n';
  if (snapshot.substr(last + 1) != expected) {
    throw BadSnapshot("snapshot of predictions: damaged: its checksum does not match its " +
                      std::to_string(body.size()) + " bytes");
  }
  return SnapshotReader(body.substr(kHeader.size())).read();
}

}  // namespace lamps
