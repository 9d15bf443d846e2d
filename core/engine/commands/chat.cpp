#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <optional>
#include <string>

#include "engine/commands/engine_command.h"
#include "engine/generate/answer_text.h"
#include "engine/generate/generation_request.h"
#include "engine/generate/interrupt_signal.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"

namespace espalier {
namespace {

constexpr const char* kHelp =
    "/system TEXT    set the system prompt and begin anew; without TEXT there is none\n"
    "/reset          forget the conversation\n"
    "/regenerate     answer the last question again\n"
    "/save FILE      write the conversation, a JSON list of messages\n"
    "/load FILE      go on with a conversation that was written\n"
    "/help           this list\n"
    "/exit           leave, as Ctrl-D does\n"
    "Ctrl-C stops an answer; what was said of it stays.";

/// Lines of standard input. A Ctrl-C drops the line that is being typed.
class LineReader {
 public:
  std::optional<std::string> next(const char* prompt) {
    const bool terminal = ::isatty(STDIN_FILENO) == 1;
    while (true) {
      if (const std::size_t end = buffer_.find('\n'); end != std::string::npos) {
        std::string line = buffer_.substr(0, end);
        buffer_.erase(0, end + 1);
        return line;
      }
      if (terminal && buffer_.empty()) show(prompt);
      char piece[4096];
      const ssize_t count = ::read(STDIN_FILENO, piece, sizeof piece);
      if (count > 0) {
        buffer_.append(piece, static_cast<std::size_t>(count));
      } else if (count < 0 && errno == EINTR) {
        if (InterruptSignal::take()) show("\n");
        buffer_.clear();
      } else if (buffer_.empty()) {
        if (terminal) show("\n");
        return std::nullopt;
      } else {
        buffer_ += '\n';  // the last line has no end
      }
    }
  }

 private:
  static void show(const char* text) {
    std::fputs(text, stdout);
    std::fflush(stdout);
  }

  std::string buffer_;
};

Table message(const char* role, const std::string& content) {
  Table table;
  table.set("role", role);
  table.set("content", content);
  return table;
}

bool is_from(const Value& message, std::string_view role) {
  const Value* found = message.find("role");
  return found != nullptr && *found == Value(role);
}

class Chat {
 public:
  Chat(GenerationRequest& request, const std::string& system)
      : request_(request), runner_(request.model()), system_(system) {
    request_.require_chat();
    reset();
  }

  void run() {
    const InterruptSignal interrupt;
    LineReader lines;
    while (const std::optional<std::string> line = lines.next("> ")) {
      if (line->find_first_not_of(" \t\r") == std::string::npos) continue;
      try {
        if (!obey(*line)) return;
      } catch (const Error& error) {
        std::printf("%s\n", error.what());  // the conversation goes on as it was
      }
      std::fflush(stdout);
    }
  }

 private:
  /// False to leave.
  bool obey(const std::string& line) {
    if (line.front() != '/') {
      ask(line);
      return true;
    }
    const std::size_t blank = line.find(' ');
    const std::string word = line.substr(0, blank);
    const std::string rest = blank == std::string::npos ? std::string() : line.substr(blank + 1);
    if (word == "/exit" || word == "/quit") return false;
    if (word == "/reset") {
      reset();
      std::puts("(a new conversation)");
    } else if (word == "/system") {
      system_ = rest;
      reset();
      std::puts(rest.empty() ? "(a new conversation without a system prompt)"
                             : "(a new conversation with this system prompt)");
    } else if (word == "/regenerate") {
      regenerate();
    } else if (word == "/save") {
      save(rest);
    } else if (word == "/load") {
      load(rest);
    } else {
      if (word != "/help") std::printf("There is no command %s.\n", word.c_str());
      std::puts(kHelp);
    }
    return true;
  }

  void reset() {
    messages_.clear();
    if (!system_.empty()) messages_.emplace_back(message("system", system_));
  }

  void ask(const std::string& question) {
    messages_.emplace_back(message("user", question));
    try {
      answer();
    } catch (const Error&) {
      messages_.pop_back();
      throw;
    }
  }

  void regenerate() {
    if (messages_.empty() || !is_from(messages_.back(), "assistant")) {
      std::puts("There is no answer yet.");
      return;
    }
    messages_.pop_back();
    answer();
  }

  void answer() {
    GenerateOptions options = request_.options();
    options.num_answers = 1;
    options.first_prompt = drawn_++;  // another draw each time
    AnswerText text(request_.tokenizer(), request_.stops());
    const auto show = [](const std::string& piece) {
      std::fputs(piece.c_str(), stdout);
      std::fflush(stdout);
    };
    InterruptSignal::take();
    generate_answers(runner_, {request_.encode_chat(Value(messages_))}, options,
                     [&](std::size_t, std::int64_t id) {
                       show(text.push(id));
                       return !text.stopped() && !InterruptSignal::take();
                     });
    show(text.finish());
    show("\n");
    messages_.emplace_back(message("assistant", text.text()));
  }

  void save(const std::string& file) {
    if (file.empty()) throw_bad_input("/save needs a file", {}, "/save FILE", "the command");
    write_file_atomically(file, dump_json(Value(messages_), 2) + "\n");
    std::printf("(%zu messages in %s)\n", messages_.size(), file.c_str());
  }

  void load(const std::string& file) {
    if (file.empty()) throw_bad_input("/load needs a file", {}, "/load FILE", "the command");
    const Value loaded = read_json_file(file);
    for (const Value& one : loaded.as_array()) {
      const Value* content = one.find("content");
      const Value* role = one.find("role");
      if (role == nullptr || !role->is_string() || content == nullptr)
        throw_bad_input("this is no conversation", dump_json(one), "messages with role and content",
                        file);
    }
    messages_ = loaded.as_array();
    for (const Value& one : messages_)
      std::printf("%s %s\n", is_from(one, "user") ? ">" : " ", shown(one).c_str());
  }

  static std::string shown(const Value& message) {
    const Value& content = *message.find("content");
    return content.is_string() ? content.as_string() : dump_json(content);
  }

  GenerationRequest& request_;
  TextRunner runner_;
  std::string system_;
  Array messages_;
  std::uint64_t drawn_ = 0;
};

}  // namespace

int run_chat(const EngineCall& call) {
  GenerationRequest request(call);
  if (::isatty(STDIN_FILENO) == 1) std::puts("/help lists what can be done besides asking.");
  Chat(request, call.text("system")).run();
  return 0;
}

}  // namespace espalier
