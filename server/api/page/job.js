// job.js - one job: its progress as it comes, then its report; and the comparison of two.
const job = { job: null, stop: null, samples: [], nSamples: 0, drawing: 0 };
const FORMATS = [["html", "HTML"], ["md", "Markdown"], ["csv", "CSV"], ["json", "JSON"]];
const LOG_MAX = 200, SAMPLES_SHOWN = 8;

// The report is a document of its own in a frame in which no script runs; same-origin only lets this
// page see how high it is.
function reportFrame(html, title) {
  const frame = make("iframe", { className: "report", title, srcdoc: html });
  frame.setAttribute("sandbox", "allow-same-origin");
  frame.onload = () => {
    const fit = () => { frame.style.height = `${frame.contentDocument.documentElement.scrollHeight + 8}px`; };
    new ResizeObserver(fit).observe(frame.contentDocument.body);
    fit();
  };
  return frame;
}

function downloadButtons(method, path, name) {
  const join = path.includes("?") ? "&" : "?";
  const buttons = FORMATS.map(([format, title]) => make("button", { type: "button", textContent: title,
    "aria-label": `Download as ${title}`,
    onclick: guarded(() => download(method, `${path}${join}format=${format}`, `${name}.${format}`)) }));
  return [make("span", { className: "hint", textContent: "Download" }), ...buttons];
}

async function showReport(id) {
  const response = await call("GET", `/v1/jobs/${id}/result?format=html`);
  const html = await response.text();
  if (job.job?.id === id) $("job-report").replaceChildren(reportFrame(html, `Report of ${jobTitle(job.job)}`));
}

function again() {
  const spec = job.job.spec;
  $("job-type").value = job.job.type;
  location.hash = "#measure";
  showType(spec);
}

async function artifactLinks(id) {
  const list = (await getJson(`/v1/jobs/${id}/artifacts`)).data;
  return list.map((one) => make("button", { type: "button", textContent: one.name,
    onclick: guarded(() => download("GET", one.url, one.name)) }));
}

async function showActions() {
  const one = job.job;
  const buttons = [endButton(one, async () => {
    if (isFinal(one)) location.hash = "#jobs";
    else await refreshJob();
  }), make("button", { type: "button", textContent: "Run again", onclick: again })];
  if (isFinal(one)) {
    const extra = await artifactLinks(one.id).catch(() => []);
    buttons.unshift(...downloadButtons("GET", `/v1/jobs/${one.id}/result`, one.id));
    buttons.push(...extra);
  }
  $("job-actions").replaceChildren(...buttons);
}

function showProgress() {
  const p = job.job.progress;
  $("job-progress").hidden = isFinal(job.job);
  $("job-stage").textContent = progressText(job.job) || words(job.job.status);
  if (p?.fraction !== undefined && p?.fraction !== null) $("job-bar").value = p.fraction;
  else $("job-bar").removeAttribute("value");
}

function showJob() {
  const one = job.job;
  $("job-title").textContent = jobTitle(one);
  $("job-line").replaceChildren(pill(one), ` ${jobWhen(one)}`);
  $("job-error").hidden = !one.error;
  $("job-error").textContent = one.error ? `${one.error.code}: ${one.error.message}` : "";
  $("job-spec-text").textContent = JSON.stringify(one.spec, null, 2);
  showProgress();
}

async function refreshJob() {
  const was = job.job;
  const now = await getJson(`/v1/jobs/${was.id}`);
  if (job.job?.id !== now.id) return; // another one was opened meanwhile
  job.job = now;
  showJob();
  await showActions();
  if (isFinal(now) && !$("job-report").hasChildNodes()) {
    $("job-live").open = false;
    // A job that failed before its first sample has no result.
    await showReport(now.id).catch((error) => { if (now.status === "succeeded") throw error; });
    if (was.status !== now.status) announce(`The job ${now.status}.`);
  }
}

// Samples may come by the hundred; the table is drawn once a frame.
function takeSample(sample) {
  job.samples.push(sample);
  if (job.samples.length > SAMPLES_SHOWN) job.samples.shift();
  job.nSamples++;
  if (!job.drawing) job.drawing = requestAnimationFrame(drawSamples);
}

// Samples are flat objects; their keys are the columns.
function drawSamples() {
  job.drawing = 0;
  const latest = [...job.samples].reverse();
  const keys = [...new Set(latest.flatMap(Object.keys))];
  const cell = (value) => (typeof value === "number" ? shortNumber(value) : String(value ?? ""));
  $("job-samples").replaceChildren(make("table", {},
    make("caption", { className: "hint", textContent: `${job.nSamples} samples, the latest first` }),
    make("thead", {}, make("tr", {}, ...keys.map((key) => make("th", { scope: "col", textContent: words(key) })))),
    make("tbody", {}, ...latest.map((one) => make("tr", {}, ...keys.map((key) => make("td", { textContent: cell(one[key]) })))))));
}

function showLog(text) {
  const now = new Date().toLocaleTimeString();
  $("job-log").prepend(make("li", {}, make("time", { textContent: now }), text));
  while ($("job-log").childElementCount > LOG_MAX) $("job-log").lastChild.remove();
}

async function takeEvent(event) {
  const data = JSON.parse(event.data);
  if (event.event === "progress") {
    job.job.progress = data;
    showProgress();
  } else if (event.event === "sample") {
    takeSample(data);
  } else if (event.event === "log") {
    showLog(data.message ?? JSON.stringify(data));
  } else if (event.event === "state" || event.event === "result") {
    if (data.status) showLog(words(data.status));
    await refreshJob();
  }
}

async function followJob(id, signal) {
  for await (const event of jobEvents(id, signal)) await takeEvent(event);
  if (!signal.aborted) await refreshJob();
}

async function openJob(id) {
  closeJob();
  job.stop = new AbortController();
  job.samples = [];
  job.nSamples = 0;
  for (const part of ["job-report", "job-samples", "job-log", "job-actions"]) $(part).replaceChildren();
  $("job-live").open = true;
  job.job = await getJson(`/v1/jobs/${id}`);
  await refreshJob();
  followJob(id, job.stop.signal).catch(showError);
}

function closeJob() {
  job.stop?.abort();
  job.stop = null;
  job.job = null;
}

async function openComparison(a, b) {
  const path = `/v1/jobs/${a}/compare?with=${b}`;
  $("compare-actions").replaceChildren();
  $("compare-report").replaceChildren();
  const html = await (await call("POST", `${path}&format=html`)).text();
  $("compare-actions").replaceChildren(...downloadButtons("POST", path, "comparison"));
  $("compare-report").replaceChildren(reportFrame(html, "Comparison of two jobs"));
}
