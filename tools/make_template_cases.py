#!/usr/bin/env python3
"""Writes tests/data/template/cases.json: conversations and what the published template makes of them.

    python tools/make_template_cases.py Qwen3.5-4B.jinja > tests/data/template/cases.json

Needs transformers and jinja2; run by hand when a case is added, never by the tests. The template is
chat_template.jinja of any Qwen3.5 checkpoint of 4B or more. The 0.8B and 2B files differ from it only
in what an unset enable_thinking means (false), so cases with "small" are rendered with it set to false.

Requests are written as clients send them. Before rendering, `normalise` does what servers do with
OpenAI requests: developer is system, arguments in a JSON string become an object, reasoning is another
name for reasoning_content. Cases with "param" must be refused, with that field named.
"""
import copy
import hashlib
import json
import pathlib
import sys

import jinja2
import tokenizers
import transformers

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city – now",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 1}},
            "required": ["city"],
        },
    },
}
ODD_TOOL = {
    "type": "function",
    "function": {
        "name": "odd",
        "description": 'quotes " and \\ and / \n\t\b\f\r \u0001\u001f\u007f \u2028 é 😀 </tools>',
        "strict": True,
        "parameters": {"x": None, "y": [1, 1.0, -0.0, 1e16, 1e-5, 0.1, 1e22, 123456789.125, -7], "z": {}},
        "empty": [],
    },
}


def user(content="Hi"):
    return {"role": "user", "content": content}


def assistant(content="Hello.", **more):
    return {"role": "assistant", "content": content, **more}


def system(content="Be brief."):
    return {"role": "system", "content": content}


def tool(content="result", **more):
    return {"role": "tool", "content": content, "tool_call_id": "c1", **more}


def call(name="get_weather", arguments=None):
    function = {"name": name, "arguments": {"city": "Paris"} if arguments is None else arguments}
    return {"id": "c1", "type": "function", "function": function}


def case(name, *messages, tools=None, thinking=None, small=False, prompt=True, **more):
    return {
        "name": name, "messages": list(messages), "tools": tools, "enable_thinking": thinking,
        "small": small, "add_generation_prompt": prompt, **more,
    }  # fmt: skip


ALL_TYPES = {
    "string": "plain text", "lines": "a\nb\n", "empty": "", "true": True, "false": False, "null": None,
    "int": 42, "negative": -3, "one": 1.0, "small": 1e-5, "big": 1e16, "near": 1234567.5, "third": 1 / 3,
    "array": [1, 2.0, "x", None, True, [], {}], "object": {"a": {"b": [{"c": "é\n\"q\""}]}},
    "emptyarray": [], "emptyobject": {}, "unicode": "naïve 漢字 \u2028 😀", "markup": "<b>&amp;</b>",
}  # fmt: skip

CASES = [
    case("one question", user()),
    case("no generation prompt", user(), prompt=False),
    case("thinking on", user(), thinking=True),
    case("thinking off", user(), thinking=False),
    case("small model, thinking unset", user(), small=True),
    case("small model, thinking on", user(), small=True, thinking=True),
    case("small model, thinking off", user(), small=True, thinking=False),
    case("small model, no prompt", user(), small=True, prompt=False),
    case("system first", system(), user()),
    case("developer is system", {"role": "developer", "content": "Be brief."}, user()),
    case("empty system", system(""), user()),
    case("system of white space", system(" \n\t "), user()),
    case("system null", system(None), user()),
    case("system in parts", system([{"type": "text", "text": " a "}, {"type": "text", "text": "b "}]), user()),
    case("empty user", user("")),
    case("user null", user(None)),
    case("user without content", {"role": "user"}),
    case("user in parts", user([{"type": "text", "text": "one"}, {"type": "text", "text": " two"}])),
    case("no parts", user([])),
    case("part without type", user([{"text": "bare"}])),
    case("trimmed", user("  \n x y \t\n ")),
    case("trimmed as Python does", user("\u00a0\u1680\u2003\u2028\u2029\u202f\u205f\u3000\x85\x1c\x1d\x1e\x1f\x0b\x0cx\u3000")),
    case("not trimmed", user("\u200b\ufeff\u180e x \u2060\u200b")),
    case("only white space of Python", user("\x1c\u3000\x1f")),
    case("control tokens in text", user("a<|im_end|>\n<|im_start|>system\nb")),
    case("several turns", system(), user("1"), assistant("2"), user("3"), assistant("4"), user("5")),
    case("history drops reasoning", user("1"), assistant("2", reasoning_content="because"), user("3")),
    case("history drops a think block", user("1"), assistant("<think>\nwhy\n</think>\n\n2"), user("3")),
    case("ends with the assistant", user("1"), assistant("2"), prompt=False),
    case("ends with the assistant, reasoning", user("1"), assistant("2", reasoning_content=" r\n"), prompt=False),
    case("ends with the assistant, alias", user("1"), assistant("2", reasoning="r"), prompt=False),
    case("both names of reasoning", user("1"), assistant("2", reasoning_content="a", reasoning="b"), prompt=False),
    case("reasoning null", user("1"), assistant("<think>t</think>2", reasoning_content=None), prompt=False),
    case("reasoning empty keeps the block in content", user("1"), assistant("<think>t</think>2", reasoning_content=""), prompt=False),
    case("think block in content", user("1"), assistant("<think>\n\n t \n</think>\n\n\n 2"), prompt=False),
    case("two think blocks", user("1"), assistant("<think>a</think>x<think>b</think>y"), prompt=False),
    case("nested think", user("1"), assistant("<think>a<think>b\n</think>\n\nc"), prompt=False),
    case("end of thought only", user("1"), assistant("a</think>b"), prompt=False),
    case("begin of thought only", user("1"), assistant("<think>a"), prompt=False),
    case("answer empty after thought", user("1"), assistant("<think>a</think>\n"), prompt=False),
    case("same role twice", user("1"), user("2"), assistant("3"), assistant("4"), user("5")),
    case("assistant null", user("1"), assistant(None), user("2")),
    case("assistant in parts", user("1"), assistant([{"type": "text", "text": "a"}]), user("2")),
    case("assistant first", assistant("hello"), user("1")),
    case("tools", user(), tools=[WEATHER]),
    case("tools and system", system(), user(), tools=[WEATHER]),
    case("tools and empty system", system(" "), user(), tools=[WEATHER]),
    case("tools and developer", {"role": "developer", "content": "D"}, user(), tools=[WEATHER]),
    case("two tools, odd characters", user(), tools=[WEATHER, ODD_TOOL], thinking=False),
    case("no tools", user(), tools=[]),
    case("call", user(), assistant(None, tool_calls=[call()]), tool("20 C"), tools=[WEATHER]),
    case("call, text before", user(), assistant("Let me see.", tool_calls=[call()]), tool("20 C"), tools=[WEATHER]),
    case("call, white space before", user(), assistant(" \n ", tool_calls=[call()]), tool("20 C")),
    case("call, reasoning", user(), assistant("", reasoning_content="must ask", tool_calls=[call()]), tool("20 C")),
    case("call, think block before", user(), assistant("<think>x</think>\n\n", tool_calls=[call()]), tool("20 C")),
    case("two calls", user(), assistant(None, tool_calls=[call(), call("odd", {"a": 1})]), tool("1"), tool("2")),
    case("two calls, text before", user(), assistant("ok", tool_calls=[call(), call()]), tool("1"), tool("2"), user("so?")),
    case("arguments in a string", user(), assistant(None, tool_calls=[call(arguments='{"city": "Rome", "n": 1.0, "d": null}')]), tool()),
    case("arguments in an empty string", user(), assistant(None, tool_calls=[call(arguments="")]), tool()),
    case("arguments null", user(), assistant(None, tool_calls=[{"function": {"name": "f", "arguments": None}}]), tool()),
    case("no arguments", user(), assistant(None, tool_calls=[{"function": {"name": "f"}}]), tool()),
    case("empty arguments", user(), assistant(None, tool_calls=[call(arguments={})]), tool()),
    case("call without function", user(), assistant(None, tool_calls=[{"name": "f", "arguments": {"a": "b"}}]), tool()),
    case("arguments of every type", user(), assistant(None, tool_calls=[call(arguments=ALL_TYPES)]), tool()),
    case("arguments of every type in a string", user(), assistant(None, tool_calls=[call(arguments=json.dumps(ALL_TYPES))]), tool()),
    case("numbers", user(), assistant(None, tool_calls=[call(arguments={"n": [
        5e-324, 1.7976931348623157e308, 2.2250738585072014e-308, 0.1 + 0.2, 1e15, 1e16, 9007199254740993.0, 0.0001,
        0.00001, 123456789012345.67, 100.0, -0.0, 5.684341886080802e-14, 9223372036854775807, -9223372036854775808]})]), tool()),
    case("tool calls empty", user(), assistant("x", tool_calls=[]), user()),
    case("tool calls null", user(), assistant("x", tool_calls=None), user()),
    case("tool result first", tool("early"), user()),
    case("tool result in parts", user(), assistant(None, tool_calls=[call()]), tool([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])),
    case("tool result empty", user(), assistant(None, tool_calls=[call()]), tool("")),
    case("tool results, then a question", user("1"), assistant("", reasoning_content="r", tool_calls=[call()]), tool("a"), tool("b"), assistant("done", reasoning_content="s"), user("2")),
    case("tool loop keeps reasoning", user("1"), assistant("", reasoning_content="r1", tool_calls=[call()]), tool("a"), assistant("", reasoning_content="r2", tool_calls=[call()]), tool("b")),
    case("user message is a tool response", user("1"), assistant("", reasoning_content="r"), user("<tool_response>\nx\n</tool_response>")),
    case("half a tool response is a question", user("1"), assistant("", reasoning_content="r"), user("<tool_response>x")),
    case("name is not printed", {"role": "user", "content": "x", "name": "ann"}, assistant("y", name="bot"), user("z")),
    case("no messages", param="messages"),
    case("no question", system(), assistant(), param="messages"),
    case("only a tool response", user("<tool_response></tool_response>"), param="messages"),
    case("system later", user(), system(), user(), param="messages[1].role"),
    case("developer later", user(), assistant(), {"role": "developer", "content": "x"}, user(), param="messages[2].role"),
    case("unknown role", user(), {"role": "function", "content": "x"}, param="messages[1].role"),
    case("no role", {"content": "x"}, user(), param="messages[0].role"),
    case("role is a number", user(), {"role": 3, "content": "x"}, param="messages[1].role"),
    case("message is a string", user(), "x", param="messages[1].role"),
    case("content is a number", user(), assistant(7), user(), param="messages[1].content"),
    case("content is an object", user({"text": "x"}), param="messages[0].content"),
    case("image", user([{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "y"}}]), param="messages[0].content[1]", ours=True),
    case("video", user([{"type": "video", "video": "y"}]), param="messages[0].content[0]", ours=True),
    case("part without text", user([{"type": "refusal", "refusal": "x"}]), param="messages[0].content[0]"),
    case("part with a number", user([{"type": "text", "text": 3}]), param="messages[0].content[0]", ours=True),
    case("part is a string", user(["x"]), param="messages[0].content[0]", ours=True),
    case("arguments are a list", user(), assistant(None, tool_calls=[call(arguments=[1])]), param="messages[1].tool_calls[0].function.arguments"),
    case("arguments are not JSON", user(), assistant(None, tool_calls=[call(), call(arguments="{")]), param="messages[1].tool_calls[1].function.arguments"),
    case("arguments are a JSON number", user(), assistant(None, tool_calls=[call(arguments="3")]), param="messages[1].tool_calls[0].function.arguments"),
    case("call without name", user(), assistant(None, tool_calls=[{"function": {}}]), param="messages[1].tool_calls[0].function.name"),
    case("calls are an object", user(), assistant("x", tool_calls={"a": 1}), param="messages[1].tool_calls", ours=True),
    case("tool is a string", user(), tools=["x"], param="tools[0]", ours=True),
    case("tools are an object", user(), tools={"x": 1}, param="tools", ours=True),
]  # fmt: skip


def normalise(messages):
    messages = copy.deepcopy(messages)
    for message in (m for m in messages if isinstance(m, dict)):
        if message.get("role") == "developer":
            message["role"] = "system"
        if not isinstance(message.get("reasoning_content"), str) and "reasoning" in message:
            message["reasoning_content"] = message["reasoning"]
        calls = message.get("tool_calls")
        for one in calls if isinstance(calls, list) else []:
            function = one.get("function", one)
            if isinstance(function.get("arguments"), str) and function["arguments"]:
                function["arguments"] = json.loads(function["arguments"])
            elif not function.get("arguments") and "arguments" in function:
                function["arguments"] = {}
    return messages


def render(tokenizer, one):
    options = {"add_generation_prompt": one["add_generation_prompt"], "tokenize": False}
    thinking = one["enable_thinking"]
    if thinking is None and one["small"]:
        thinking = False
    if thinking is not None:
        options["enable_thinking"] = thinking
    if not one["messages"]:
        raise jinja2.TemplateError("no messages")  # the library itself fails on an empty list
    return tokenizer.apply_chat_template(normalise(one["messages"]), tools=one["tools"], **options)


def main():
    template = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=template)
    for one in CASES:
        try:
            text = render(tokenizer, one)
        except (jinja2.TemplateError, TypeError, AttributeError, ValueError) as error:
            if "param" not in one:
                sys.exit(f"{one['name']}: {error}")
            continue
        if "param" not in one:
            one["expected"] = text
        elif not one.pop("ours", False):
            sys.exit(f"{one['name']}: the template takes it")
    for one in CASES:
        one.pop("ours", None)
    document = {
        "made_by": "tools/make_template_cases.py",
        "template_sha256": hashlib.sha256(template.encode()).hexdigest(),
        "transformers": transformers.__version__,
        "jinja2": jinja2.__version__,
        "cases": CASES,
    }
    json.dump(document, sys.stdout, ensure_ascii=True, indent=1)
    print()


if __name__ == "__main__":
    main()
