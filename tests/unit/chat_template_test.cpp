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
  const Value file =
      read_json_file(std::string(std::getenv("ESPALIER_FIXTURES")) + "/chat_templates/cases.json");
  const Table& special_tokens = file.find("special_tokens")->as_table();
  for (const Value& expected : file.find("cases")->as_array()) {
    const std::string& name = expected.find("template")->as_string();
    const std::string& conversation = expected.find("conversation")->as_string();
    SCOPED_TRACE(name + " " + conversation);
    const auto compiled =
        compile_chat_template(file.find("templates")->find(name)->as_string(), special_tokens);
    const Value tools = expected.find("tools")->as_bool() ? *file.find("tools") : Value();
    const Value* variables = expected.find("kwargs");
    try {
      const RenderedChat chat =
          compiled->render(*file.find("conversations")->find(conversation), tools,
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

/// A template, and the text that jinja2 makes of it.
struct RenderedText {
  const char* source;
  const char* text;
};

void expect_texts(std::initializer_list<RenderedText> cases) {
  for (const auto& [source, text] : cases) {
    SCOPED_TRACE(source);
    EXPECT_EQ(render(source), text);
  }
}

TEST(ChatTemplate, ReadsNumbersAsPythonDoes) {
  expect_texts({
      {"{{ 0_000 + 00_0 }} {{ 0or 1 }} {{ 0x_f }} {{ 0b1_1 }} {{ 00.5 }} {{ 1_0.5_0e1_0 }}",
       "0 1 15 3 0.5 105000000000.0"},
      {"{{ '1_000.'|int }} {{ '1__0'|int }} {{ '_1'|int }} {{ '1_'|int(7) }}", "1000 0 0 7"},
      {"{{ '1_0.5'|float }} {{ '1_e5'|float }} {{ '1e1_0'|float }} {{ '+-5'|float }}",
       "10.5 0.0 10000000000.0 0.0"},
      {"{{ '1e400'|float }} {{ '-1e400'|float }} {{ '1e-400'|float }} {{ '-inf'|float }}",
       "inf -inf 0.0 -inf"},
      {"{{ '0x_1f'|int(0, 16) }} {{ '010'|int(7, 0) }} {{ '-0x1f'|int(0, 0) }}", "31 10 -31"},
  });
}

TEST(ChatTemplate, ReadsANumberAsAFloatWhereTheBaseIsNone) {
  expect_texts({{"{{ '0x1f'|int(0, 106) }} {{ '5'|int(7, 1) }} {{ '5'|int(7, nothing) }}", "0 5 5"},
                {"{{ 'x'|int(3, '10') }} {{ '5.5'|int(3, none) }}", "3 5"}});
}

TEST(ChatTemplate, RoundsAsPythonDoes) {
  expect_texts(
      {{"{{ 1250|round(-2) }} {{ 1350|round(-2) }} {{ -1250|round(-2) }} {{ 7|round(-30) }}",
        "1200 1400 -1200 0"},
       {"{{ 2.5|round(none) }} {{ 2.5|round(-400) }} {{ 12|round(-1, 'ceil') }}", "2 0.0 20.0"},
       {"{{ -1.0 // 0.3 }} {{ -0.0 // 5 }} {{ -5 % 3.5 }}", "-4.0 -0.0 2.0"}});
  EXPECT_EQ(problem_of("{{ 10.0 ** 400 }}").found, "OverflowError");
}

TEST(ChatTemplate, SaysWhichValuesOfPythonItDoesNotHave) {
  for (const char* source : {"{{ 18446744073709551616 * 1.0 }}", "{{ 9223372036854775807 + 1 }}",
                             "{{ '99999999999999999999'|int }}", "{{ ('f' * 20)|int(0, 16) }}"})
    EXPECT_EQ(problem_of(source).what, "an integer of the template exceeds 64 bits") << source;
  EXPECT_NE(problem_of("\n{{ 18446744073709551616 }}").where.find(":2"), std::string::npos);
  EXPECT_EQ(problem_of("{{ (-8) ** 0.5 }}").what, "a power in the template is a complex number");
  for (const char* source : {"{{ dict[('a', 1)] }}", "{{ dict.a }}"})
    EXPECT_EQ(problem_of(source).what, "a template can't take an element of the type dict");
}

TEST(ChatTemplate, PrintsAnyNumberOfExpressions) {
  expect_texts({{"[{% print %}]", "[]"}, {"{% print 1, 'a' %}", "1a"}});
}

TEST(ChatTemplate, EvaluatesDefaultsInSightOfAllParameters) {
  expect_texts(
      {{"{% set x = 5 %}{% macro m(x=x) %}[{{ x }}]{% endmacro %}{{ m() }}{{ m(1) }}", "[][1]"},
       {"{% macro m(x=y, y=2) %}[{{ x }}{{ y }}]{% endmacro %}{{ m(y=3) }}{{ m() }}", "[33][2]"},
       {"{% macro m(a, kwargs) %}{{ kwargs }}{% endmacro %}{{ m(1, 2) }}", "2"},
       {"{% macro m() %}{{ caller(1, 2) }}{% endmacro %}{% call(a) m() %}{{ varargs }}{% endcall "
        "%}",
        "(2,)"}});
}

TEST(ChatTemplate, JoinerGivesBackWhatItWasGiven) {
  expect_texts({{"{% set j = joiner(1) %}[{{ j() }}]{{ j() + 1 }}", "[]2"},
                {"{{ joiner(nothing)() ~ 'x' }}", "x"}});
}

TEST(ChatTemplate, EscapesWhatJoinsAnEscapedText) {
  expect_texts({
      {"{{ ('<'|e) + '<' }} {{ '<' + ('<'|e) }} {{ ('<'|e) ~ '<' }}", "&lt;&lt; &lt;&lt; &lt;<"},
      {"{{ '<'|e|e }} {{ '<'|e|forceescape }} {{ '<'|safe|e }} {{ '<'|e is escaped }}",
       "&lt; &amp;lt; < True"},
      {"{{ ('%s %r'|safe) % ('<', '>') }} {{ ('{}{}'|safe).format('<', '<'|safe) }}",
       "&lt; &#39;&gt;&#39; &lt;<"},
      {"{{ ('-'|safe).join(['<', 1]) }} {{ ('a'|e).replace('a', '<') }} {{ '-'.join(['<'|e]) }}",
       "&lt;-1 &lt; &lt;"},
      {"{{ ['<'|e, ('<'|e)[0], ('a b'|e).split()] }}",
       "[Markup('&lt;'), Markup('&'), [Markup('a'), Markup('b')]]"},
      {"{{ ('foo bar'|e)|truncate(4, end='<', leeway=0) }} {{ [('<'|e)|title, ('<'|e)|upper] }}",
       "foo&lt; ['&lt;', Markup('&LT;')]"},
  });
}

TEST(ChatTemplate, TakesItemsOfAGeneratorWhenTheyAreAskedFor) {
  expect_texts({
      {"{{ [1, 2]|map|int }} {{ [1, 'a']|map('abs')|first }} {{ 1 in [1, 'a']|map('abs') }}",
       "0 1 True"},
      {"{% set g = [1, 2, 3]|select %}{{ g|first }}{{ g|first }}{{ g|list }}{{ g|list }}",
       "12[3][]"},
      {"{{ [1, 2]|map('string')|reverse }}", "['2', '1']"},
      {"{{ [1, 2, 3]|batch(nothing)|list }} {{ [1, 2, 3]|batch(2, 0)|list }}",
       "[[1, 2, 3]] [[1, 2], [3, 0]]"},
  });
  EXPECT_EQ(problem_of("{{ [1, 2]|map|list }}").found, "FilterArgumentError");
  EXPECT_EQ(problem_of("{% set ns = namespace(g=[1]) %}{% for i in range(9999) %}"
                       "{% set ns.g = ns.g|map('string') %}{% endfor %}")
                .found,
            "RecursionError");
}

TEST(ChatTemplate, PutsTheDefaultInPlaceOfEachPartOfAPath) {
  expect_texts(
      {{"{{ [{}]|map(attribute='.n', default='-')|list }}", "['-']"},
       {"{{ [{'a': {'b': 1}}, {}]|map(attribute='a.b', default='-')|list }}", "[1, '-']"}});
}

TEST(ChatTemplate, LoopsTakeAnItemAtATime) {
  expect_texts({
      {"{% set ns = namespace(n=0) %}{% for x in [1, 2, 3] if ns.n < 2 %}"
       "{% set ns.n = ns.n + 1 %}{{ x }}{% endfor %}",
       "12"},
      {"{% for x in [1, 2, 3] if x > 1 %}{{ loop }}{{ loop.last }}{% endfor %}",
       "<LoopContext 1/2>False<LoopContext 2/2>True"},
      {"{% for x in [1, 2] %}{{ loop|length }}{% endfor %}", "22"},
      {"{% for x in [1, 'a']|map('abs') %}{{ x }}{% if 1 %}{% break %}{% endif %}{% endfor %}",
       "1"},
  });
}

TEST(ChatTemplate, RunsTheElseOfALoopUnlessABodyCameToItsEnd) {
  expect_texts({{"{% for x in [1, 2] %}{{ x }}{% continue %}{% else %}-{% endfor %}", "12-"},
                {"{% for x in [1] %}{{ x }}{% break %}{% else %}-{% endfor %}", "1-"},
                {"{% for x in [1, 2] %}{{ x }}{% if x == 2 %}{% break %}{% endif %}{% else %}-"
                 "{% endfor %}",
                 "12"}});
}

TEST(ChatTemplate, FormatsNumbersAsPythonDoes) {
  expect_texts({
      {"{{ '{:05,d}|{:08,}|{:#06x}|{:_x}|{:<04}'.format(42, -42, 255, 1048576, 3) }}",
       "0,042|-000,042|0x00ff|10_0000|3000"},
      {"{{ '%.3d|%06.3d|%#06x|%*d|%a' % (5, 5, 255, -3, 4, 'é') }}",
       "005|000005|0x00ff|4  |'\\xe9'"},
  });
}

TEST(ChatTemplate, TakesAnyNameForALoopVariable) {
  expect_texts({{"{% for in in [3, 1] %}{{ in }}{% endfor %}", "31"}});
}

TEST(ChatTemplate, NamesTheTypesOfItsFunctions) {
  expect_texts({{"{{ cycler }} {{ [joiner, namespace] }}",
                 "<class 'jinja2.utils.Cycler'> "
                 "[<class 'jinja2.utils.Joiner'>, <class 'jinja2.utils.Namespace'>]"},
                {"{% for x in [1] %}{{ loop.changed }}{% endfor %}",
                 "<bound method LoopContext.changed of <LoopContext 1/1>>"}});
}

TEST(ChatTemplate, ComparesNoSingleItem) {
  expect_texts(
      {{"{{ [nothing]|min is undefined }} {{ [none]|max }} {{ [3, 1, 2]|max }}", "True None 3"}});
}

TEST(ChatTemplate, SlicesAndComparesAsPythonDoes) {
  expect_texts({{"{{ range(3)[::-1] }} {{ range(10)[2:8:3] }}", "range(2, -1, -1) range(2, 8, 3)"},
                {"{{ {'b': 1, 'a': 2}.items() == {'a': 2, 'b': 1}.items() }} "
                 "{{ {'a': 1}.values() == {'a': 1}.values() }}",
                 "True False"}});
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
                          "{% set ns.s = ns.s + ns.s %}{% endfor %}")
                   .what.empty());
  EXPECT_FALSE(problem_of("{% set ns = namespace(l=[]) %}{% for i in range(9999) %}"
                          "{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}")
                   .what.empty());
}

TEST(ChatTemplate, EndsValuesOfAnyDepth) {
  const auto nested = [](const std::string& value) {
    return "{% set ns = namespace(v=1) %}{% for i in range(99999) %}{% for j in range(5) %}"
           "{% set ns.v = " +
           value + " %}{% endfor %}{% endfor %}";
  };
  for (const char* value : {"[ns.v]", "(ns.v,)", "{'v': ns.v}"}) {
    SCOPED_TRACE(value);
    EXPECT_EQ(render(nested(value) + "x"), "x");
    EXPECT_EQ(problem_of(nested(value) + "{{ ns.v }}").found, "RecursionError");
    EXPECT_EQ(problem_of(nested(value) + "{{ ns.v == [[ns.v]][0][0] }}").found, "RecursionError");
  }
  EXPECT_EQ(problem_of(nested("(ns.v,)") + "{{ {ns.v: 1} }}").found, "RecursionError");
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
