"""Compares Espalier's chat templates with jinja2 in the environment that transformers sets up.

    python tests/integration/template_fuzz.py --program build/bin/text_driver [--mutations 2000] [--seed N]

Needs a Python with `jinja2` alone. Fixed snippets must agree in text, or in the type of the error; mutated templates
must end in a text or an error, and must give the text that jinja2 gives; where jinja2 raises, ours may be more lenient
(that is counted and does not fail).
"""
import argparse
import json
import random
import subprocess
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox
from jinja2 import nodes

MESSAGES = [
    {"role": "system", "content": " Be brief. ", "n": 3},
    {"role": "user", "content": "Hi ünï\ncode 'q' \"d\"", "tags": ["b", "A", "c"], "score": 1.5},
    {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1, "y": [True, None]}}}]},
    {"role": "user", "content": [{"type": "text", "text": "part"}, {"type": "image"}], "flag": False},
]
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"b": 1, "a": {"z": "<é>"}}}}]

EXPRESSIONS = """
1 + 2 * 3 - 4
7 // 2, -7 // 2, 7 % 3, -7 % 3, 7 / 2, 2 ** 10, 2 ** -1, -2 ** 2, 7.5 // 2, -7.5 % 2
1_000 + 0x1f + 0b11 + 0o17
1.0, 1e3, 1e16, 1e-5, 1.5e300, 0.1 + 0.2, 100000000000000000.0, -0.0
'a' + 'b' ~ 1 ~ none ~ true ~ 1.5
'abc' * 2, [1] * 2, 2 * 'x'
'abc'[0], 'abc'[-1], 'abc'[1:], 'abc'[::-1], 'héllo'[1:3], [1,2,3,4][1:3], [1,2,3,4][::2], (1,2,3)[-2:], 'abc'[10], [1][5]
[1,2,3][3:0:-1], [1,2,3,4,5][-1:-4:-2], 'abc'[:-1], 'abc'[-100:100]
1 < 2 < 3, 1 < 2 > 5, 'a' < 'b', 1 == 1.0, true == 1, 'a' == 1, [1] == [1], (1,) == [1]
1 in [1,2], 'a' in 'abc', 'x' not in {'x': 1}, 2 not in (1, 2), none in [none]
not true, not none, not '', not [], not 0, not undefined_name
true and 'x', false or 'y', '' or none, 1 and 0
'x' if true else 'y', 'x' if false, ('x' if false) is undefined
none, true, false, None, True, False
[1, 'a', none, true, 1.5, [2], (3,), {'k': 'v'}]
{'a': 1, "b": [1, 2], 3: none, none: 4, 1.5: 'x', true: 'y'}
(), (1,), (1, 2), [], {}
"it's", 'say "hi"', "both ' and \\"", 'tab\\tnl\\nx', '\\u00e9\\x41\\101', 'back\\\\slash'
['it\\'s', 'say "hi"', 'both \\' "', 'a\\nb', '\\x00\\x7f', 'é', '\\u200b']
messages[0].role, messages[0]['role'], messages.0.role, messages[1].tags[0], messages[-1].content[0].text
messages|length, messages|count, 'abc'|length, {'a':1}|length
messages|map(attribute='role')|list, messages|map(attribute='role')|join(', ')
messages|selectattr('role', 'equalto', 'user')|list|length, messages|rejectattr('role', 'eq', 'user')|map(attribute='role')|list
messages|selectattr('tool_calls')|list|length, messages|selectattr('tool_calls', 'defined')|list|length, messages|selectattr('n', 'undefined')|list|length
[1,2,3,4]|select('odd')|list, [1,2,3,4]|reject('even')|list, ['a', '', none, 'b']|select|list, [1,2,3]|select('>', 1)|list, [1,5,3]|select('in', [1,3])|list
['a','b']|map('upper')|list, [1,2]|map('string')|join, ['a ', ' b']|map('trim')|join('-'), ['ab']|map('replace', 'a', 'x')|list
messages|map(attribute='n', default='-')|list
'Hello World'|upper, 'Hello'|lower, 'hello world-foo (bar)'|title, 'hELLO wORLD'|capitalize, "they're bill's"|title
'hello world'.title(), "they're".title(), 'ß'.upper(), 'ÀÉ'.lower(), 'ΑΣ'.lower(), 'aBc'.swapcase(), 'ﬁ'.upper()
'  x '.strip() ~ '|', 'xxaxx'.strip('x'), '  x '.lstrip() ~ '|', '  x '.rstrip() ~ '|', 'abcab'.strip('ab'), '\\n x\\t'|trim
'a,b,,c'.split(','), ' a  b '.split(), 'a,b,c'.split(',', 1), 'a b c'.rsplit(' ', 1), 'a b  c'.split(none, 1), 'abc'.split('x'), ''.split(), ''.split(',')
'a\\nb\\r\\nc\\n'.splitlines(), 'ab'.splitlines(true), 'a-b-c'.partition('-'), 'a-b-c'.rpartition('-'), 'abc'.partition('x')
'abc'.startswith('a'), 'abc'.endswith(('x', 'c')), 'abc'.startswith('b', 1), 'abc'.find('c'), 'abc'.find('x'), 'aXbX'.rfind('X'), 'abcabc'.count('b'), 'aaa'.count('aa')
'a-b'.replace('-', '+'), 'aaa'.replace('a', 'b', 2), 'abc'.replace('', '-'), 'aaa'|replace('a', 'x', 2), 5|replace(5, 6)
'-'.join(['a', 'b']), '-'.join('abc'), 'x'.center(5) ~ '|', 'x'.ljust(3, '.') , 'x'.rjust(3), '7'.zfill(3), '-7'.zfill(4), 'abc'.index('b')
'abc'.isalpha(), '12'.isdigit(), 'a1'.isalnum(), ' '.isspace(), 'ab'.islower(), 'AB'.isupper(), ''.isdigit(), 'Ab Cd'.istitle(), '½'.isnumeric(), 'a'.isascii()
'prefix-x'.removeprefix('prefix-'), 'x.py'.removesuffix('.py')
'{} {}'.format('a', 1), '{0}{1}{0}'.format(1, 2), '{x}-{y!r}'.format(x=1, y='q'), '{:>5}|{:<4}|{:^5}|{:05d}|{:.2f}|{:x}|{:,}'.format('a', 'b', 'c', 42, 3.14159, 255, 1234567), '{{}}'.format()
'%s-%d-%5.2f|%-5s|%05d|%x|%r|%%' % ('a', 3, 2.5, 'b', 42, 255, 'q'), '%s' % 'x', '%s' % [1, 2], '%(a)s' % {'a': 1}, '%+d' % 5, '%e' % 12345.678, '%g' % 0.0001
'%s and %s'|format('a', 'b'), '%(x)s'|format(x=1), '%.3s|' % 'abcdef', '%c' % 'x', '%i' % 3.7
{'a': 1}.items(), {'a': 1}.keys(), {'a': 1}.values(), {'a': 1}.get('a'), {'a': 1}.get('b'), {'a': 1}.get('b', 2), {'b': 1, 'a': 2}|items|list
{'b': 1, 'a': 2}|dictsort, {'B': 1, 'a': 2}|dictsort(true), {'b': 1, 'a': 2}|dictsort(by='value'), {'b': 1, 'a': 2}|dictsort(reverse=true)
[3,1,2]|sort, ['b','A','c']|sort, ['b','A']|sort(case_sensitive=true), [3,1,2]|sort(reverse=true), messages[:2]|sort(attribute='content')|map(attribute='role')|list
[1,2,3]|reverse|list, 'abc'|reverse, [1,1,2,'a','A']|unique|list, [1,2,3]|sum, [1.5, 2]|sum, [3,1]|min, [3,1]|max, []|min is undefined, ['b','A']|min
[{'a':1},{'a':2}]|sum(attribute='a'), [1,2,3]|sum(start=10), [[1],[2]]|sum(start=[])
[1,2,3,4,5]|batch(2)|list, [1,2,3]|batch(2, 0)|list, [1,2,3,4,5]|slice(2)|list, [1,2,3]|slice(2, 0)|list
[1,2,3]|first, [1,2,3]|last, []|first is defined, 'abc'|first, 'abc'|last
messages|groupby('role')|map('first')|list, messages|groupby('role')|map('last')|map('length')|list
undefined_name|default('d'), none|default('d'), none|default('d', true), ''|d('x', boolean=true), 0|default(5)
'3'|int, '3.7'|int, 'x'|int, 'x'|int(7), 3.9|int, -3.9|int, true|int, '0x1f'|int(0, 16), ' 5 '|int, none|int, '1_000'|int, [1]|int
'3.5'|float, 'x'|float, 'x'|float(1.5), 3|float, none|float, '1e3'|float, 'inf'|float
-5|abs, (-5)|abs, (-2.5)|abs, 2.5|round, 3.5|round, 2.567|round(2), 2.5|round(0, 'ceil'), 2.51|round(1, 'floor'), 7|round, 1234|round(-2), 2.675|round(2)
'a\\nb\\n\\nc'|indent, 'a\\nb'|indent(2, true), 'a\\n\\nb'|indent(2, blank=true), 'a\\nb'|indent('> '), ''|indent
'foo bar baz qux'|truncate(9), 'foo bar baz qux'|truncate(9, true), 'foo bar baz qux'|truncate(11), 'foo bar baz qux'|truncate(11, false, '..', 0), 'x'|center(5) ~ '|'
'a b, c-d'|wordcount, '<b>'|length, 'a b/c?d=é'|urlencode, {'a': 'b c', 'd': '/'}|urlencode
{'a': [1, 2.5, none, true], 'é': '<&\\'"\\n>', 'n': {}}|tojson, []|tojson, 'x'|tojson, 1.0|tojson, (1, 2)|tojson, {1: 2, none: 3, true: 4}|tojson
tools|tojson, tools|tojson(indent=2), tools[0]|tojson(indent=4), {'b': 1, 'a': 2}|tojson(sort_keys=true), {'é': 1}|tojson(ensure_ascii=true), [1, {'a': 2}]|tojson(separators=(',', ':'))
'\\u2028\\x7f\\x01'|tojson, '😀'|tojson(ensure_ascii=true), {'a': []}|tojson(indent=1), {'a': 1}|tojson(indent='--')
1 is number, 1.5 is float, 1 is integer, true is integer, true is boolean, 'a' is string, none is none, [] is sequence, {} is mapping, 'a' is iterable, 1 is iterable, {} is sequence
x is defined, messages is defined, x is undefined, 3 is odd, 4 is even, 9 is divisibleby 3, 9 is divisibleby(2), 1 is eq 1, 1 is ne 2, 1 is lt 2, 2 is ge 2, 2 is greaterthan 1
'abc' is lower, 'ABC' is upper, 1 is in [1,2], none is sameas none, 'a' is not string, range is callable, 'x' is callable, true is true, 1 is true, false is false, true is sameas true
'upper' is filter, 'odd' is test, 1 is equalto 1, 1 is not equalto(2), messages is not string and messages is iterable
range(5)|list, range(1, 5)|list, range(5, 0, -2)|list, range(3), range(1, 4, 2), range(5)[1:3]|list, range(5)|length, 3 in range(5)
dict(a=1, b='x'), dict([('a', 1)]), dict({'a': 1}, b=2)
namespace(a=1).a, cycler('a', 'b').next(), joiner()() ~ 'x'
messages[1].tags is sequence, messages[3].content is string, messages[0].missing is defined, messages[0]['missing'] is none
'a' 'b' "c", ('x'), ('x',)|length
[1, 2,], {'a': 1,}
messages[0].content|trim|upper|replace('B', 'b') ~ '!'
(1, 2) + (3,), [1] + [2]
1 if 2 else 3 if 4 else 5, (1 if 0 else 2) + 1
messages|map(attribute='content')|select('string')|list
['a', 'b']|join, [1, none, true]|join('-'), messages|join(',', attribute='role')
[1, 2] | map('int') | sum, '5' | int + 1, -1 | abs, 2 ** 3 | int
'%s' % none, '%d' % true, 'a' ~ [1, 'b'] ~ {'c': none}
1 + 'a'
'a' + 1
[1] + 'a'
none + 1
undefined_name + 1
undefined_name.x
undefined_name['x']
undefined_name()
messages[0].missing.deeper
messages.append(1)
{}.update({})
[].append
{'a': 1}.pop('a')
''.__class__
''.__class__.__mro__
messages.__len__
[1, 2].sort()
1 / 0
1 // 0
1 % 0
1.5 / 0
1 < 'a'
none < 1
'x'|nofilter
1 is notest
'abc'.nomethod()
'abc'.upper(1)
nofunc()
raise_exception('my message')
raise_exception('a' ~ 1)
range(200000)|length
range('a')
[1, 'a']|sort
5|length
none|length
none|list
5|first
{1: 2}[[]]
{[]: 1}
undefined_name|tojson
range(3)|tojson
namespace()|tojson
'abc'|int + none
'%d' % 'a'
'%s %s' % 'a'
'%s' % (1, 2)
'{} {}'.format(1)
'{x}'.format()
[1, 2]|map('nofilter')|list
'a,b'.split('')
'x' in 5
5 in 'abc'
none.x
('<a href="x">&\\'</a>'|e) ~ ('<b>'|escape)
loop
caller
'a'.join([1])
messages|map(attribute='content')|map('upper')|list|length
undefined_name|length, undefined_name|list, undefined_name ~ 'x', undefined_name|upper, undefined_name|default([])|length, undefined_name == undefined_two, undefined_name in [1]
[undefined_name], undefined_name|join, undefined_name|first is undefined, undefined_name|string
-undefined_name
undefined_name|int
undefined_name|abs
""".strip().split("\n")

STATEMENTS = [
    "{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }};{% endfor %}",
    "{% for m in messages %}{{ loop.previtem.role if loop.previtem is defined else '-' }}>{{ (loop.nextitem|default({'role': '.'})).role }} {% endfor %}",
    "{% for m in messages %}{{ loop.changed(m.role) }}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for x in [] %}x{% else %}empty{% endfor %}{% for x in [1] %}x{% else %}empty{% endfor %}",
    "{% for x in [1,2,3,4] if x is even %}{{ loop.index }}/{{ loop.length }}:{{ x }} {% else %}none{% endfor %}",
    "{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }},{% endfor %}{% for k in {'x': 1} %}{{ k }}{% endfor %}{% for c in 'héy' %}[{{ c }}]{% endfor %}",
    "{% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for x in [1,2,3,4,5] %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 4 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for n in [{'v': 1, 'c': [{'v': 2, 'c': [{'v': 3}]}]}, {'v': 4}] recursive %}<{{ n.v }}@{{ loop.depth }}{% if n.c %}{{ loop(n.c) }}{% endif %}>{% endfor %}",
    "{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = x + i %}{{ x }};{% endfor %}{{ x }}",
    "{% set ns = namespace(n=0, l=[]) %}{% for i in range(4) %}{% set ns.n = ns.n + i %}{% set ns.l = ns.l + [i] %}{% endfor %}{{ ns.n }} {{ ns.l }}",
    "{% if false %}a{% elif none %}b{% elif 1 %}c{% else %}d{% endif %}{% if x %}{% set y = 1 %}{% endif %}{{ y is defined }}{% if 1 %}{% set z = 2 %}{% endif %}{{ z }}",
    "{% macro m(a, b=2, c=a) %}[{{ a }}{{ b }}{{ c }}{{ varargs }}{{ kwargs }}]{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(1, c=5) }}{{ m(1, 2, 3, 4, x=5) }}{{ m(b=1, a=0) }}",
    "{% macro m(a) %}{{ a is defined }}{{ a }}{% endmacro %}{{ m() }}{{ m(none) }}{{ m.name }}{{ m.arguments }}{{ m }}",
    "{% macro m(a) %}x{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}x{% endmacro %}{{ m(b=2) }}",
    "{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}body{% endcall %}",
    "{% macro m(x) %}<{{ caller(x, 'y') }}|{{ caller(1, 2) }}>{% endmacro %}{% call(a, b) m(5) %}{{ a }}-{{ b }}{% endcall %}",
    "{% macro fact(n) %}{{ 1 if n <= 1 else n * fact(n - 1)|int }}{% endmacro %}{{ fact(5) }}",
    "{% set g = 'outer' %}{% macro m() %}{{ g }}{% set g = 'inner' %}{{ g }}{% endmacro %}{{ m() }}{{ g }}",
    "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set t = 1, %}{{ t }}{% set (c, d) = [3, 4] %}{{ c }}{{ d }}",
    "{% set a, b = [1] %}",
    "{% set a, b = [1, 2, 3] %}",
    "{% for a, b in [1] %}{% endfor %}",
    "{% for x in 5 %}{% endfor %}",
    "{% for x in none %}{% endfor %}",
    "{% for x in undefined_name %}x{% else %}e{% endfor %}",
    "{% set x %}block {{ 1 + 1 }}{% endset %}[{{ x }}]{% set y | upper | replace('A', 'x') %}abc{% endset %}{{ y }}",
    "{% filter upper %}abc{{ 'd' }}{% endfilter %}{% filter replace('a', 'b')|trim %}  aa  {% endfilter %}|",
    "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }}",
    "{% raw %}{{ x }}{% if %}{% endraw %}|{%- raw -%}  {{ y }}  {%- endraw -%}  z",
    "a{# comment #}b{#- c -#} d {# multi\nline #}\ne",
    "  {% if true %}\n  x\n  {% endif %}\n y",
    "a\n  {%- if true %}  b  {%- endif %}\n c",
    "a\n  {%+ if true %}  b  {%+ endif %}\n c",
    "{% if true -%}\n\n  x\n\n{%- endif %}\n\ny",
    "{{ 'a' -}}   \n b {{- 'c' }}\n\n{{ 'd' }}\n",
    "{% if true +%}\nx{% endif +%}\ny\n",
    "line\r\nnext\rlast\r\n",
    "x\n\n",
    "\n\n  {# c #}\n\n",
    "{{ '}}' }}{{ \"%}\" }}{{ {'a': {'b': 1}} }}",
    "{{+ 1 }}{{ - 1 }}{{-1}}",
    "a {{+ 'b' }}{{++1}}  {#+ c #}d",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.next() }}{% set j = joiner('|') %}{% for i in [1,2,3] %}{{ j() }}{{ i }}{% endfor %}",
    "{% set ns = namespace() %}{% set ns.x = 1 %}{{ ns.x }}{{ ns.y is defined }}{% set notns = {} %}{% set notns.x = 1 %}",
    "{% for m in messages %}{% set outer = loop %}{% for c in 'ab' %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}",
    "{% generation %}a{% endgeneration %}b{% generation %}{% set x = 1 %}c{% endgeneration %}{{ x is defined }}",
    "{% macro m() %}{% generation %}in{% endgeneration %}{% endmacro %}ab{{ m() }}{% set s %}{% generation %}q{% endgeneration %}{% endset %}{{ s }}",
    "é{% for m in messages %}{% generation %}{{ m.role }}{% endgeneration %},{% endfor %}",
    "{% if tools %}{{ tools[0].function.name }}{% endif %}{{ documents is none }}{{ add_generation_prompt }}{{ bos_token }}",
    "{% print 1 + 1 %}{% autoescape true %}x{% endautoescape %}",
    "{% for i in range(3) %}{% for j in range(3) %}{% if j == 1 %}{% break %}{% endif %}{{ i }}{{ j }} {% endfor %}{% endfor %}",
    "{% set x = messages[0] %}{{ x.items()|list|length }}{{ x.keys()|list }}{{ x.role }}",
    "{% set d = {'items': 1, 'get': 2} %}{{ d['items'] }}{{ d.get('items') }}",
    "{{ messages | selectattr('role', 'in', ['user', 'system']) | map(attribute='role') | join(',') }}",
    "{% set groups = messages | groupby('role') %}{% for g in groups %}{{ g.grouper }}{{ g.list|length }}{% endfor %}{% for r, l in groups %}{{ r }}{{ l|length }}{% endfor %}",
    "{% unknown %}", "{% if %}", "{% for x %}", "{{ 1 + }}", "{{ (1 }}", "{% endif %}", "{% if true %}", "{{", "{%", "{#", "{{ 'a }}", "{% set 1 = 2 %}", "{{ a b }}",
    "{% for x in [1] %}{% endif %}", "{% raw %}", "{{ 1 | }}", "{{ x is }}", "{% macro %}{% endmacro %}", "{% break %}", "{{ a.1b }}", "{{ $ }}", "{{ {1:2 }}", "{{ [1, }}", "{% set x = %}",
    "{% else %}", "{{ f(a=1, 2) }}", "{{ f(*a, *b) }}", "{% include 'x' %}", "{{ 1 is odd is odd }}", "{% macro m(a=1, b) %}{% endmacro %}",
    "{{ dict(*[[('a', 1)]], **{'b': 2}) }}", "{{ '%s'|format(*['x']) }}",
    "{% set x = 5 %}{% macro m(x=x) %}{{ x }}{% endmacro %}{{ m(1) }}",
    "{% for i in [3,1] %}{{ i }}{% set messages = [] %}{% endfor %}{{ messages|length }}",
    "{% if messages[0].n == 3 and messages[1].score > 1 %}ok{% endif %}",
]


class Generation(jinja2.ext.Extension):
    """transformers' `{% generation %}`."""

    tags = {"generation"}
    state = None

    def parse(self, parser):
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_support"), [], [], body).set_lineno(lineno)

    @jinja2.pass_eval_context
    def _support(self, context, caller):
        rendered = caller()
        blocks, spans = Generation.state
        start = len("".join(blocks))
        spans.append([start, start + len(rendered)])
        return rendered


def make_environment():
    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    return environment


def reference(environment, source):
    blocks, spans = [], []
    Generation.state = (blocks, spans)
    try:
        template = environment.from_string(source)
        for block in template.generate(
            messages=MESSAGES, tools=TOOLS, documents=None, add_generation_prompt=True, bos_token="<s>"
        ):
            blocks.append(block)
    except Exception as error:  # the kind of error is what is compared
        return {"error": str(error), "error_type": type(error).__name__}
    return {"text": "".join(blocks), "assistant_spans": spans}


def ours(program, sources):
    lines = [
        json.dumps(
            {"template": source, "messages": MESSAGES, "tools": TOOLS, "add_generation_prompt": True, "special_tokens": {"bos_token": "<s>"}}
        )
        for source in sources
    ]
    out = subprocess.run([program, "template", "-", "0"], input="\n".join(lines) + "\n", capture_output=True, text=True)
    if out.returncode != 0:
        sys.exit(f"the program ended with {out.returncode}: {out.stderr}")
    return [json.loads(line) for line in out.stdout.split("\n") if line]


SYNTAX = {"TemplateSyntaxError", "TemplateAssertionError"}


# What Espalier refuses where jinja2 gives a text, by the words of the error: integers have 64 bits, where Python's have
# no end; there are no complex numbers, nor the generic type `dict[...]`, which a template could do nothing with but print.
REFUSED = {
    "an integer of the template exceeds 64 bits",
    "a power in the template is a complex number",
    "a template can't take an element of the type dict",
}


def agree(mine, theirs, strict):
    if mine.get("error") in REFUSED:
        return True
    if "text" in theirs:
        return mine == theirs
    if "text" in mine:
        return False
    if theirs["error_type"] in SYNTAX or mine["error_type"] in SYNTAX:
        return True
    return not strict or mine["error_type"] == theirs["error_type"]


def mutate(rng, source):
    alphabet = "{}%#'\"()[]|.,:~+-*/=<> \nabx01if"
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(source) + 1)
        how = rng.random()
        if how < 0.4:
            source = source[:at] + source[at + rng.randrange(1, 4) :]
        elif how < 0.8:
            source = source[:at] + rng.choice(alphabet) + source[at:]
        else:
            begin = rng.randrange(len(source) + 1)
            source = source[:at] + source[begin : begin + rng.randrange(12)] + source[at:]
    return source


def has_address(result):
    text = result.get("text", "").lower()  # whatever case a filter has given it
    return " at 0x" in text or "object>" in text


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--mutations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--show", type=int, default=20)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    environment = make_environment()

    fixed = STATEMENTS[:]
    for line in EXPRESSIONS:
        fixed.append("{{ (" + line + ") }}" if "," in line else "{{ " + line + " }}")
    different = 0
    for source, mine in zip(fixed, ours(arguments.program, fixed), strict=True):
        theirs = reference(environment, source)
        if not agree(mine, theirs, True) and not has_address(theirs):
            different += 1
            if different <= arguments.show:
                print(f"{source!r}\n  ours   {mine}\n  theirs {theirs}")
    print(f"{len(fixed)} fixed templates, {different} different")

    rng = random.Random(arguments.seed)
    mutated = [mutate(rng, rng.choice(fixed)) for _ in range(arguments.mutations)]
    mutants = lenient = 0
    for source, mine in zip(mutated, ours(arguments.program, mutated), strict=True):
        theirs = reference(environment, source)
        if "error" in theirs and "text" in mine:
            lenient += 1
        elif not agree(mine, theirs, False) and not has_address(theirs):
            mutants += 1
            if mutants <= arguments.show:
                print(f"{source!r}\n  ours   {str(mine)[:600]}\n  theirs {str(theirs)[:600]}")
    print(f"{len(mutated)} mutated templates, {mutants} different, {lenient} accepted that jinja2 refuses")
    sys.exit(1 if different or mutants else 0)


if __name__ == "__main__":
    main()
