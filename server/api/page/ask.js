// ask.js - the prompt box: an answer as it is generated, in turns (chat) or as the text's own going on.
const ask = { turns: [], stop: null };

function addTurn(role, text) {
  const body = make("div", { textContent: text });
  const turn = make("article", { className: `turn ${role}` }, make("h3", { textContent: role }), body);
  $("ask-log").append(turn);
  return { turn, body };
}

function askBody(mode, text) {
  const body = {
    model: node.model?.id,
    max_tokens: $("ask-max").valueAsNumber,
    temperature: $("ask-temperature").valueAsNumber,
    top_p: $("ask-top-p").valueAsNumber,
    stream: true,
    stream_options: { include_usage: true },
  };
  if ($("ask-seed").value) body.seed = $("ask-seed").valueAsNumber;
  if (mode === "chat") body.messages = [...ask.turns, { role: "user", content: text }];
  else body.prompt = text;
  return body;
}

// The pieces of an answer: { text, thought, usage, timings }.
async function* askPieces(mode, body, signal) {
  const path = mode === "chat" ? "/v1/chat/completions" : "/v1/completions";
  const response = await call("POST", path, { body, signal });
  for await (const event of eventsOf(response)) {
    if (event.data === "[DONE]") return;
    const chunk = JSON.parse(event.data);
    if (chunk.error) throw new ApiError(500, chunk.error);
    const choice = chunk.choices?.[0];
    yield {
      text: choice?.delta?.content ?? choice?.text ?? "",
      thought: choice?.delta?.reasoning_content ?? "",
      usage: chunk.usage,
      timings: chunk.timings,
    };
  }
}

function figures(facts, begun, first) {
  const parts = [];
  if (facts.usage) parts.push(`${facts.usage.prompt_tokens} + ${facts.usage.completion_tokens} tokens`);
  if (first) parts.push(`first after ${Math.round(first - begun)} ms`);
  const rate = facts.timings?.predicted_per_second;
  if (rate) parts.push(`${shortNumber(rate)} tokens/s`);
  return parts.join(", ");
}

async function answer(mode, text, signal) {
  const begun = performance.now();
  const { turn, body } = addTurn(mode === "chat" ? "assistant" : "completion", "");
  const thoughts = make("div", { className: "hint" });
  const facts = {};
  let first = 0;
  body.before(thoughts);
  for await (const piece of askPieces(mode, askBody(mode, text), signal)) {
    if (!first && (piece.text || piece.thought)) first = performance.now();
    body.append(piece.text);
    thoughts.append(piece.thought);
    facts.usage = piece.usage ?? facts.usage;
    facts.timings = piece.timings ?? facts.timings;
    $("ask-log").scrollTop = $("ask-log").scrollHeight;
  }
  turn.append(make("p", { className: "hint", textContent: figures(facts, begun, first) }));
  if (mode === "chat")
    ask.turns.push({ role: "user", content: text }, { role: "assistant", content: body.textContent });
}

function setAsking(asking) {
  $("ask-send").disabled = asking;
  $("ask-stop").disabled = !asking;
  // Readers wait for the whole answer instead of speaking every piece of it.
  $("ask-log").setAttribute("aria-busy", String(asking));
}

const sendPrompt = guarded(async (event) => {
  event.preventDefault();
  const text = $("ask-text").value;
  if (!text.trim() || ask.stop) return;
  const mode = $("ask-mode").value;
  ask.stop = new AbortController();
  setAsking(true);
  addTurn(mode === "chat" ? "user" : "prompt", text);
  $("ask-text").value = "";
  try {
    await answer(mode, text, ask.stop.signal);
    announce("The answer is complete.");
  } catch (error) {
    $("ask-text").value ||= text;
    throw error;
  } finally {
    ask.stop = null;
    setAsking(false);
  }
});

function initAsk() {
  $("ask-form").onsubmit = sendPrompt;
  $("ask-stop").onclick = () => ask.stop?.abort();
  $("ask-clear").onclick = () => {
    ask.stop?.abort();
    ask.turns = [];
    $("ask-log").replaceChildren();
  };
  $("ask-text").onkeydown = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("ask-form").requestSubmit();
  };
}
