// node.js - the line below the title: is the node ready, what does it serve, how busy is it.
const node = { model: null };

function parseMetrics(text) {
  const values = {};
  for (const line of text.split("\n")) {
    const found = /^(deltaserve_\w+) ([-+.\deE]+)$/.exec(line);
    if (found) values[found[1]] = Number(found[2]);
  }
  return values;
}

function showNode(facts) {
  const rows = facts.filter(([, value]) => value).map(([name, value]) =>
    make("div", {}, make("dt", { textContent: name }), make("dd", { textContent: value })));
  $("node").replaceChildren(...rows);
}

async function nodeState() {
  try {
    await call("GET", "/health");
    return "ready";
  } catch (error) {
    return error instanceof ApiError && error.code === "model_loading" ? "loading the model" : error.message;
  }
}

async function refreshNode() {
  const state = await nodeState();
  if (state !== "ready") {
    node.model = null;
    showNode([["node", state]]);
    return;
  }
  node.model ??= (await getJson("/v1/models")).data[0];
  node.version ??= await getJson("/version");
  const m = parseMetrics(await (await call("GET", "/metrics")).text());
  const used = (name) => `${m[`deltaserve_${name}_used`]} of ${m[`deltaserve_${name}`]}`;
  showNode([
    ["node", "ready"],
    ["model", `${node.model.id} (${shortNumber(node.model.meta.n_params)} parameters)`],
    ["device", node.version.device],
    ["context", `${node.model.max_model_len.toLocaleString("en")} tokens`],
    ["running", String(m.deltaserve_requests_running)],
    ["queue", String(m.deltaserve_requests_waiting)],
    ["KV pages", used("kv_pages")],
    ["slots", used("state_slots")],
    ["version", node.version.version],
  ]);
}

async function watchNode() {
  const PERIOD_MS = 2000;
  for (;;) {
    if (document.visibilityState === "visible") await refreshNode().catch(() => showNode([["node", "no answer"]]));
    await sleep(PERIOD_MS);
  }
}
