// net.js - calls to this server: JSON, errors as sentences, the API key, server-sent events by fetch
// (an EventSource can send neither a key nor a body).
class ApiError extends Error {
  constructor(status, error) {
    super(error?.message ?? `the server answered ${status}`);
    this.status = status;
    this.param = error?.param ?? null;
    this.code = error?.code ?? null;
  }
}

const KEY_NAME = "deltaserve.key";
let keyAsked = null; // a promise while the form is open

function askKey() {
  keyAsked ??= new Promise((resolve) => {
    $("key").hidden = false;
    $("key-input").focus();
    $("key").onsubmit = (event) => {
      event.preventDefault();
      sessionStorage.setItem(KEY_NAME, $("key-input").value);
      $("key-input").value = "";
      $("key").hidden = true;
      keyAsked = null;
      resolve();
    };
  });
  return keyAsked;
}

// fetch with the key; asks for one when the server wants it. Throws ApiError for all but 2xx and 304.
async function call(method, path, { body, headers = {}, signal } = {}) {
  for (;;) {
    const key = sessionStorage.getItem(KEY_NAME);
    const options = { method, headers: { ...headers }, signal, cache: "no-store" };
    if (key) options.headers.Authorization = `Bearer ${key}`;
    if (body !== undefined) {
      options.headers["Content-Type"] = "application/json";
      options.body = JSON.stringify(body);
    }
    const response = await fetch(path, options).catch((error) => {
      if (error.name === "AbortError") throw error;
      throw new Error("the server does not answer");
    });
    if (response.status === 401) {
      await askKey();
      continue;
    }
    if (response.ok) return response;
    const document = await response.json().catch(() => null);
    throw new ApiError(response.status, document?.error);
  }
}

async function getJson(path, options) {
  return (await call("GET", path, options)).json();
}

async function postJson(path, body, options) {
  return (await call("POST", path, { ...options, body })).json();
}

// One event of its lines, or null for a comment.
function parseEvent(block) {
  const event = { id: "", event: "message", data: "" };
  const data = [];
  for (const line of block.split(/\r\n|\r|\n/)) {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") data.push(value);
    else if (name === "id" || name === "event") event[name] = value;
  }
  event.data = data.join("\n");
  return data.length ? event : null;
}

// The events of a response, as they come.
async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    for (let end; (end = text.search(/\r?\n\r?\n/)) >= 0; ) {
      const event = parseEvent(text.slice(0, end));
      text = text.slice(end).replace(/^\r?\n\r?\n/, "");
      if (event) yield event;
    }
  }
}

// The events of a job from the first one on, over as many connections as it takes, until the one that
// says how it ended.
async function* jobEvents(id, signal) {
  let last = "";
  for (let failures = 0; !signal.aborted; ) {
    try {
      const headers = { Accept: "text/event-stream", ...(last && { "Last-Event-ID": last }) };
      const response = await call("GET", `/v1/jobs/${id}/events`, { headers, signal });
      if (response.status === 204) return;
      for await (const event of eventsOf(response)) {
        failures = 0;
        last = event.id || last;
        yield event;
        if (event.event === "state" && isFinal(JSON.parse(event.data))) return;
      }
    } catch (error) {
      if (signal.aborted || error instanceof ApiError) throw error;
    }
    // The connection is lost, or the server ends.
    await sleep(Math.min(200 * 2 ** failures++, 10000));
  }
}

async function download(method, path, name) {
  const blob = await (await call(method, path)).blob();
  const url = URL.createObjectURL(blob);
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}
