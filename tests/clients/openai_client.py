#!/usr/bin/env python3
"""openai_client.py - the `openai` package against a running server, as its users write it.

Checks that the package's typed objects are filled, that errors arrive as its exception classes and are
not retried, and that leaving a stream ends the work. Prints "N passed, N failed" last.
Usage: openai_client.py --url http://127.0.0.1:8080 --model bundled
"""

import argparse
import asyncio
import re
import sys
import threading
import time
import traceback
import urllib.request

import openai

URL = MODEL = client = None
REQUESTS = []  # of `client`, retries included


def setup():
    global URL, MODEL, client
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    args = parser.parse_args()
    URL, MODEL = args.url, args.model
    hooks = {"request": [lambda request: REQUESTS.append(request.url.path)]}
    client = openai.OpenAI(base_url=f"{URL}/v1", api_key="none", timeout=300,
                           http_client=openai.DefaultHttpxClient(event_hooks=hooks, timeout=300))


def metric(name):
    with urllib.request.urlopen(f"{URL}/metrics", timeout=60) as reply:
        found = re.search(rf"^{name} (\d+)", reply.read().decode(), re.M)
    return int(found.group(1))


def wait_for_metric(name, at_least=None, exactly=None):
    """Until the metric is there; a test of cancelling has no other way to see the engine."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        value = metric(name)
        if (at_least is not None and value >= at_least) or (exactly is not None and value == exactly):
            return
        time.sleep(0.02)
    raise AssertionError(f"{name} stays at {metric(name)}")


def complete(**fields):
    return client.completions.create(**{"model": MODEL, "prompt": "The old man", "max_tokens": 8,
                                        "temperature": 0, **fields})


def chat(**fields):
    return client.chat.completions.create(**{
        "model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8,
        "temperature": 0, **fields})


def raises(kind, call, **expected):
    """call must raise kind, after one request only."""
    before = len(REQUESTS)
    try:
        call()
    except openai.APIStatusError as e:
        assert type(e) is kind, f"{type(e).__name__}: {e}"
        for name, value in expected.items():
            assert getattr(e, name) == value, f"{name} is {getattr(e, name)!r}: {e}"
        assert e.request_id, "no x-request-id"
        assert len(REQUESTS) == before + 1, "it was retried"
        return e
    raise AssertionError(f"no {kind.__name__}")


# --- models -------------------------------------------------------------------------------------

def test_models():
    models = client.models.list()
    assert MODEL in [m.id for m in models.data]
    model = client.models.retrieve(MODEL)
    assert model.id == MODEL and model.object == "model" and model.created > 1_600_000_000
    assert model.max_model_len > 0
    raises(openai.NotFoundError, lambda: client.models.retrieve("no-such-model"),
           code="model_not_found", param="model")


# --- completions --------------------------------------------------------------------------------

def test_completion():
    r = complete()
    assert r.id.startswith("cmpl-") and r.object == "text_completion" and r.model == MODEL
    assert abs(r.created - time.time()) < 3600
    choice = r.choices[0]
    assert choice.index == 0 and isinstance(choice.text, str) and choice.text
    assert choice.finish_reason in ("stop", "length") and choice.logprobs is None
    assert r.usage.prompt_tokens > 0 and 1 <= r.usage.completion_tokens <= 8
    assert r.usage.total_tokens == r.usage.prompt_tokens + r.usage.completion_tokens
    assert r.usage.prompt_tokens_details.cached_tokens >= 0
    assert r.timings["predicted_n"] == r.usage.completion_tokens
    assert r._request_id


def test_request_id_is_the_clients():
    r = complete(extra_headers={"x-request-id": "my-request.1"})
    assert r._request_id == "my-request.1"


def test_headers():
    raw = client.completions.with_raw_response.create(model=MODEL, prompt="a", max_tokens=2)
    assert float(raw.headers["openai-processing-ms"]) >= 0
    assert "prefill;dur=" in raw.headers["server-timing"]
    assert raw.parse().choices[0].text is not None


def test_completion_stream():
    whole = complete(max_tokens=12)
    chunks = list(complete(max_tokens=12, stream=True))
    assert {c.id for c in chunks} == {chunks[0].id} and chunks[0].object == "text_completion"
    assert all(len(c.choices) == 1 for c in chunks), "empty choices that nobody asked for"
    assert "".join(c.choices[0].text for c in chunks) == whole.choices[0].text
    reasons = [c.choices[0].finish_reason for c in chunks]
    assert reasons[-1] == whole.choices[0].finish_reason and not any(reasons[:-1])


def test_completion_stream_usage():
    whole = complete()
    chunks = list(complete(stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
    assert all(c.usage is None for c in chunks[:-1])


def test_several_prompts_and_choices():
    r = complete(prompt=["The old man", "Once upon a time"], n=2, temperature=1, seed=3)
    assert [c.index for c in r.choices] == [0, 1, 2, 3]
    again = complete(prompt=["The old man", "Once upon a time"], n=2, temperature=1, seed=3)
    assert [c.text for c in r.choices] == [c.text for c in again.choices], "the seed decides"


def test_prompts_of_ids():
    ids = complete(extra_body={"return_token_ids": True}).choices[0].prompt_token_ids
    text = complete().choices[0].text
    assert complete(prompt=ids).choices[0].text == text
    assert [c.text for c in complete(prompt=[ids, ids]).choices] == [text, text]


def test_stop():
    text = complete(max_tokens=16).choices[0].text
    stop = text[5:8]
    r = complete(max_tokens=16, stop=[stop])
    assert r.choices[0].finish_reason == "stop" and r.choices[0].text == text[:text.index(stop)]
    assert r.choices[0].stop_reason == stop
    streamed = "".join(c.choices[0].text for c in complete(max_tokens=16, stop=stop, stream=True))
    assert streamed == r.choices[0].text


def test_logprobs():
    r = complete(logprobs=3)
    l = r.choices[0].logprobs
    n = r.usage.completion_tokens
    assert len(l.tokens) == len(l.token_logprobs) == len(l.top_logprobs) == len(l.text_offset) == n
    for token, logprob, top in zip(l.tokens, l.token_logprobs, l.top_logprobs):
        assert logprob <= 0 and len(top) >= 3 and top[token] == logprob == max(top.values())


def test_loglikelihood():
    """What evaluation tools ask for: the prompt's own logprobs and one more token."""
    ids = complete(extra_body={"return_token_ids": True}).choices[0].prompt_token_ids
    r = complete(prompt=[ids, ids[:2]], max_tokens=1, logprobs=1, echo=True, seed=1234)
    for choice, prompt in zip(sorted(r.choices, key=lambda c: c.index), (ids, ids[:2])):
        l = choice.logprobs
        assert len(l.token_logprobs) == len(l.top_logprobs) == len(prompt) + 1
        assert l.token_logprobs[0] is None and l.top_logprobs[0] is None
        for token, logprob, top in list(zip(l.tokens, l.token_logprobs, l.top_logprobs))[1:]:
            assert top[token] == logprob, "an entry of the map differs"
    greedy = r.choices[0].logprobs
    assert greedy.token_logprobs[-1] == max(greedy.top_logprobs[-1].values())
    assert complete(max_tokens=0, logprobs=1, echo=True).choices[0].logprobs.token_logprobs == \
        complete(max_tokens=1, logprobs=1, echo=True).choices[0].logprobs.token_logprobs[:-1]


def test_tokens_as_ids():
    r = complete(logprobs=2, extra_body={"return_tokens_as_token_ids": True})
    assert all(t.startswith("token_id:") for t in r.choices[0].logprobs.tokens)


# --- chat ---------------------------------------------------------------------------------------

def test_chat():
    r = chat()
    assert r.id.startswith("chatcmpl-") and r.object == "chat.completion" and r.model == MODEL
    message = r.choices[0].message
    assert message.role == "assistant" and isinstance(message.content, str)
    assert message.refusal is None and message.tool_calls is None
    assert r.choices[0].finish_reason in ("stop", "length")
    assert r.usage.total_tokens == r.usage.prompt_tokens + r.usage.completion_tokens
    assert r.usage.completion_tokens_details.reasoning_tokens == 0
    assert r.system_fingerprint


def test_chat_stream():
    whole = chat(max_tokens=12)
    chunks = list(chat(max_tokens=12, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
    chunks = chunks[:-1]
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[0].choices[0].delta.content == ""
    assert all(c.choices[0].delta.role is None for c in chunks[1:])
    text = "".join(c.choices[0].delta.content or "" for c in chunks)
    assert text == whole.choices[0].message.content
    reasons = [c.choices[0].finish_reason for c in chunks]
    assert reasons[-1] == whole.choices[0].finish_reason and not any(reasons[:-1])
    assert chunks[0].object == "chat.completion.chunk"


def test_chat_stream_helper():
    with client.chat.completions.stream(model=MODEL, max_tokens=8, temperature=0,
                                        messages=[{"role": "user", "content": "Hello"}]) as stream:
        events = [e.type for e in stream]
        try:
            final = stream.get_final_completion()
        except openai.LengthFinishReasonError as e:  # how the helper tells max_tokens
            final = e.completion
    assert "chunk" in events and final.choices[0].message.content == chat().choices[0].message.content


def test_chat_logprobs():
    r = chat(logprobs=True, top_logprobs=2, n=2)
    for choice in r.choices:
        for t in choice.logprobs.content:
            assert t.logprob <= 0 and len(t.top_logprobs) == 2
            assert t.top_logprobs[0].logprob >= t.top_logprobs[1].logprob
            assert t.logprob == t.top_logprobs[0].logprob, "greedy"
            assert bytes(t.bytes).decode(errors="replace") and t.token
    assert sum(len(c.logprobs.content) for c in r.choices) == r.usage.completion_tokens


def test_chat_forms_of_messages():
    text = chat().choices[0].message.content
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    assert chat(messages=[{"role": "user", "content": parts}]).choices[0].message.content == text
    chat(messages=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Grüß Gott 🙂"},
                   {"role": "assistant", "content": None, "tool_calls": [
                       {"id": "1", "type": "function",
                        "function": {"name": "f", "arguments": "{\"x\": 1}"}}]},
                   {"role": "tool", "tool_call_id": "1", "content": "2"}])
    chat(tools=[], user="u", metadata={"a": "b"}, store=False, max_tokens=None, max_completion_tokens=2)


def test_chat_thinking():
    off = chat()
    assert not hasattr(off.choices[0].message, "reasoning_content")
    on = chat(extra_body={"chat_template_kwargs": {"enable_thinking": True}}, max_tokens=6)
    message = on.choices[0].message
    assert message.reasoning_content == message.reasoning
    assert on.usage.completion_tokens_details.reasoning_tokens <= on.usage.completion_tokens
    deltas = [c.choices[0].delta for c in chat(
        extra_body={"chat_template_kwargs": {"enable_thinking": True}}, max_tokens=6, stream=True)]
    streamed = "".join(getattr(d, "reasoning_content", None) or "" for d in deltas)
    assert streamed == message.reasoning_content
    assert "".join(d.content or "" for d in deltas) == message.content


# --- errors -------------------------------------------------------------------------------------

def test_errors():
    bad = openai.BadRequestError
    raises(bad, lambda: complete(temperature=3), param="temperature", code=None,
           type="invalid_request_error")
    raises(bad, lambda: complete(temperature=3, stream=True), param="temperature")
    raises(bad, lambda: complete(suffix="x"), param="suffix", code="unsupported_parameter")
    raises(bad, lambda: complete(prompt=[[-1]]), param="prompt[0][0]")
    raises(bad, lambda: complete(max_tokens=10**7), code="context_length_exceeded", param="max_tokens")
    raises(bad, lambda: complete(prompt="word " * 200_000), code="context_length_exceeded", param="prompt")
    raises(bad, lambda: complete(n=10**6), param="n")
    raises(bad, lambda: chat(messages=[]), param="messages")
    raises(bad, lambda: chat(messages=[{"role": "king", "content": "a"}]), param="messages[0].role")
    raises(bad, lambda: chat(response_format={"type": "json_object"}), param="response_format",
           code="unsupported_parameter")
    raises(bad, lambda: chat(tools=[{"type": "function", "function": {"name": "f"}}],
                             tool_choice="required"), param="tool_choice",
           code="unsupported_parameter")
    raises(openai.NotFoundError, lambda: complete(model="other"), code="model_not_found", param="model")
    raises(openai.NotFoundError, lambda: client.get("/no-such-path", cast_to=object))


# --- streams and threads ------------------------------------------------------------------------

def test_closing_a_stream_cancels():
    cancelled = metric("deltaserve_request_cancelled_total")
    stream = complete(max_tokens=5000, stream=True, extra_body={"ignore_eos": True})
    next(iter(stream))
    assert metric("deltaserve_requests_running") >= 1
    stream.close()
    wait_for_metric("deltaserve_request_cancelled_total", at_least=cancelled + 1)
    wait_for_metric("deltaserve_requests_running", exactly=0)


def test_timeout_cancels():
    cancelled = metric("deltaserve_request_cancelled_total")
    impatient = client.with_options(timeout=0.5, max_retries=0)
    try:
        impatient.completions.create(model=MODEL, prompt="a", max_tokens=5000,
                                     extra_body={"ignore_eos": True})
        raise AssertionError("5000 tokens in half a second")
    except openai.APITimeoutError:
        pass
    wait_for_metric("deltaserve_request_cancelled_total", at_least=cancelled + 1)


def test_parallel_streams():
    prompts = ["The old man", "Once upon a time", "It was", "She said"]
    alone = [complete(prompt=p).choices[0].text for p in prompts]
    together = [None] * 8

    def run(i):
        chunks = complete(prompt=prompts[i % 4], stream=True)
        together[i] = "".join(c.choices[0].text for c in chunks)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert together == alone + alone


def test_async_client():
    async def run():
        async with openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key="none", timeout=300) as a:
            async def one(i):
                stream = await a.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": "Hello"}], max_tokens=8,
                    temperature=0, stream=True)
                return "".join([c.choices[0].delta.content or "" async for c in stream])
            return await asyncio.gather(*(one(i) for i in range(4)))
    assert set(asyncio.run(run())) == {chat().choices[0].message.content}


def main():
    setup()
    passed = failed = 0
    for name, test in list(globals().items()):
        if not name.startswith("test_"):
            continue
        try:
            test()
            passed += 1
        except Exception:  # a failure of one check must not hide the others
            failed += 1
            print(f"FAIL {name}")
            traceback.print_exc(file=sys.stdout)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
