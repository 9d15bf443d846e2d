#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <random>

#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "text/chat_template_loader.h"

namespace espalier::text {
namespace {

std::string render(const std::string& source) {
  return compile_chat_template(source, {})->render(Value(Array()), Value(), false).text;
}

Problem problem_of(const std::string& source) {
  try {
    render(source);
  } catch (const Error& error) {
    return error.problems()[0];
  }
  ADD_FAILURE() << source << " rendered";
  return {};
}

TEST(ChatTemplate, RendersTheReferenceCases) {
  const Value file = read_json_file(std::string(std::getenv("ESPALIER_FIXTURES")) +
                                    "/chat_templates/cases.json");
  const Table& special_tokens = file.find("special_tokens")->as_table();
  for (const Value& expected : file.find("cases")->as_array()) {
    const std::string& name = expected.find("template")->as_string();
    const std::string& conversation = expected.find("conversation")->as_string();
    SCOPED_TRACE(name + " " + conversation);
    const auto compiled = compile_chat_template(
        file.find("templates")->find(name)->as_string(), special_tokens);
    const Value tools = expected.find("tools")->as_bool() ? *file.find("tools") : Value();
    const Value* variables = expected.find("kwargs");
    try {
      const RenderedChat chat = compiled->render(
          *file.find("conversations")->find(conversation), tools,
          expected.find("add_generation_prompt")->as_bool(),
          variables == nullptr ? Table() : variables->as_table());
      ASSERT_TRUE(expected.find("rendered") != nullptr) << chat.text;
      EXPECT_EQ(chat.text, expected.find("rendered")->as_string());
      const Value* spans = expected.find("generation_spans");
      if (spans == nullptr || spans->is_null()) continue;
      ASSERT_EQ(chat.assistant_spans.size(), spans->as_array().size());
      for (std::size_t i = 0; i < chat.assistant_spans.size(); ++i) {
        EXPECT_EQ(chat.assistant_spans[i].first, spans->as_array()[i].as_array()[0].as_int());
        EXPECT_EQ(chat.assistant_spans[i].second, spans->as_array()[i].as_array()[1].as_int());
      }
    } catch (const Error& error) {
      ASSERT_TRUE(expected.find("error") != nullptr) << error.what();
      EXPECT_EQ(error.problems()[0].what, expected.find("error")->as_string());
      EXPECT_EQ(error.problems()[0].found, expected.find("error_type")->as_string());
    }
  }
}

TEST(ChatTemplate, CountsSpansInCodePoints) {
  const auto compiled = compile_chat_template("é{% generation %}äö{% endgeneration %}x", {});
  const RenderedChat chat = compiled->render(Value(Array()), Value(), false);
  ASSERT_EQ(chat.assistant_spans.size(), 1U);
  EXPECT_EQ(chat.assistant_spans[0], (std::pair<std::int64_t, std::int64_t>(1, 3)));
  EXPECT_TRUE(chat.has_generation_blocks);
}

TEST(ChatTemplate, WritesValuesAsPythonDoes) {
  EXPECT_EQ(render("{{ [1, 1.0, 1e16, 'it\\'s', none, true, {'a': (1,)}] }}"),
            "[1, 1.0, 1e+16, \"it's\", None, True, {'a': (1,)}]");
  EXPECT_EQ(render("{{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 'héllo'[1:3] }}"), "-4 2 3.5 él");
  EXPECT_EQ(render("{% for n in [{'v': 1, 'c': [{'v': 2}]}] recursive %}{{ n.v }}"
                   "{{ loop(n.c) if n.c }}{% endfor %}"),
            "12");
}

TEST(ChatTemplate, NamesTheLineOfAMistake) {
  EXPECT_NE(problem_of("a\n{{ nothing.x }}").where.find(":2"), std::string::npos);
  EXPECT_NE(problem_of("a\n\n{% if %}").where.find(":3"), std::string::npos);
  EXPECT_EQ(problem_of("{{ raise_exception('no') }}").what, "no");
  EXPECT_EQ(problem_of("{{ [].append(1) }}").found, "SecurityError");
}

TEST(ChatTemplate, EndsTemplatesThatNeverEnd) {
  const std::string loops =
      "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
  EXPECT_NE(problem_of(loops).what.find("steps"), std::string::npos);
  EXPECT_EQ(problem_of("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}").found, "RecursionError");
  EXPECT_EQ(problem_of("{{ 'x' * 999999999 }}").found, "MemoryError");
  EXPECT_FALSE(problem_of("{{ [1] * 999999999 }}").what.empty());
  EXPECT_FALSE(problem_of("{{ '%999999999d' % 1 }}").what.empty());
  EXPECT_FALSE(problem_of("{{ 2 ** 9999 }}").what.empty());
  EXPECT_FALSE(problem_of("{% set ns = namespace(s='x') %}{% for i in range(99) %}"
                          "{% set ns.s = ns.s + ns.s %}{% endfor %}").what.empty());
  EXPECT_FALSE(problem_of("{% set ns = namespace(l=[]) %}{% for i in range(9999) %}"
                          "{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}").what.empty());
}

TEST(ChatTemplate, RefusesDeepNesting) {
  for (const char* opening : {"(", "[", "-", "not ", "{1:", "x[", "f(", "1 if 1 else "}) {
    std::string source = "{{ ";
    for (int i = 0; i < 100'000; ++i) source += opening;
    EXPECT_EQ(problem_of(source).found, "TemplateSyntaxError") << opening;
  }
  std::string blocks;
  for (int i = 0; i < 100'000; ++i) blocks += "{% if 1 %}";
  EXPECT_EQ(problem_of(blocks).found, "TemplateSyntaxError");
  std::string branches = "{% if 0 %}";
  for (int i = 0; i < 100'000; ++i) branches += "{% elif 0 %}";
  EXPECT_EQ(problem_of(branches + "{% endif %}").found, "TemplateSyntaxError");
}

TEST(ChatTemplate, NeverCrashesOnMutations) {
  const std::string source =
      "{%- set ns = namespace(n=0) -%}{% macro m(a, b='x') %}{{ a ~ b | upper }}{% endmacro %}"
      "{% for k, v in {'a': [1, 2], 'b': 'c'}.items() if v %}{{ m(k, b=v[0:1]) }}{% else %}-"
      "{% endfor %}{% set x %}{{ '%s' % ns.n }}{% endset %}{# c #}{{ [x, 1.5] | tojson(indent=2) }}"
      "{% generation %}{{ x if x is defined else 'y' }}{% endgeneration %}";
  std::mt19937 random(11);
  for (int round = 0; round < 5000; ++round) {
    std::string mutated = source;
    for (int i = 0; i < 3; ++i) {
      const std::size_t at = random() % mutated.size();
      if (random() % 2 == 0) {
        mutated.erase(at, random() % 6 + 1);
      } else {
        mutated.insert(at, 1, "{}%#'\"()[]|.,:~-+* \n01ax"[random() % 24]);
      }
    }
    try {
      render(mutated);
    } catch (const Error&) {
      continue;  // an error is as good as a text here
    }
  }
}

class ChatTemplateFolder : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "/chat_XXXXXX";
    folder_ = mkdtemp(pattern.data());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void write(const std::string& name, const std::string& text) const {
    write_file_atomically(folder_ + "/" + name, text);
  }
  std::string rendered(bool with_tools = false) const {
    return load_chat_template(folder_, with_tools)->render(Value(Array()), Value(), false).text;
  }
  std::string folder_;
};

TEST_F(ChatTemplateFolder, PrefersTheFileOverTheConfig) {
  EXPECT_EQ(load_chat_template(folder_), nullptr);
  write("tokenizer_config.json",
        R"({"chat_template": "config {{ bos_token }}", "bos_token": {"content": "<s>"}})");
  EXPECT_EQ(rendered(), "config <s>");
  write("chat_template.jinja", "file {{ bos_token }}");
  EXPECT_EQ(rendered(), "file <s>");
}

TEST_F(ChatTemplateFolder, ChoosesANamedTemplate) {
  write("tokenizer_config.json", R"({"chat_template": [{"name": "default", "template": "plain"},
        {"name": "tool_use", "template": "tools"}]})");
  EXPECT_EQ(rendered(false), "plain");
  EXPECT_EQ(rendered(true), "tools");
  write("tokenizer_config.json", R"({"chat_template": 5})");
  EXPECT_THROW(load_chat_template(folder_), Error);
}

}  // namespace
}  // namespace espalier::text
