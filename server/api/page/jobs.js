// jobs.js - the list of jobs, and two of them chosen to be compared.
const jobs = { shown: [], chosen: new Set() };
const FINAL = ["succeeded", "failed", "cancelled", "expired"];
const isFinal = (job) => FINAL.includes(job.status);
const jobTitle = (job) => job.name || words(job.type);

function pill(job) {
  const word = job.verdict ? `${job.status}: ${job.verdict}` : job.status;
  return make("span", { className: `pill ${job.verdict === "fail" ? "fail" : job.status}`, textContent: word });
}

function progressText(job) {
  const p = job.progress;
  if (job.status === "queued" && job.queue_position > 0) return `${job.queue_position} before it`;
  if (isFinal(job) || !p) return "";
  const parts = [p.stage, p.total ? `${shortNumber(p.done)} of ${shortNumber(p.total)} ${p.unit}` : "", p.message,
    p.eta_seconds ? `${duration(p.eta_seconds)} left` : ""];
  return parts.filter(Boolean).join(" · ");
}

function jobWhen(job) {
  const seconds = job.usage?.wall_seconds;
  const took = isFinal(job) && seconds ? `, took ${duration(seconds)}` : "";
  return `${job.name ? `${words(job.type)}, ` : ""}${clockTime(job.created_at)}${took}`;
}

async function endJob(job) {
  if (!isFinal(job)) await call("POST", `/v1/jobs/${job.id}/cancel`);
  else if (confirm(`Delete "${jobTitle(job)}" with its result?`)) await call("DELETE", `/v1/jobs/${job.id}`);
  else return false;
  announce(isFinal(job) ? "Deleted." : "Cancelled.");
  return true;
}

function endButton(job, done) {
  const word = isFinal(job) ? "Delete" : "Cancel";
  return make("button", { type: "button", textContent: word, className: isFinal(job) ? "danger" : "",
    "aria-label": `${word} ${jobTitle(job)}`,
    onclick: guarded(async () => { if (await endJob(job)) await done(); }) });
}

function choose(job, on) {
  if (on) jobs.chosen.add(job.id);
  else jobs.chosen.delete(job.id);
  $("jobs-compare").disabled = jobs.chosen.size !== 2;
  $("jobs-chosen").textContent = jobs.chosen.size ? `${jobs.chosen.size} of 2 chosen` : "";
}

function jobRow(job) {
  const box = make("input", { type: "checkbox", checked: jobs.chosen.has(job.id), disabled: job.status !== "succeeded",
    "aria-label": `Choose ${jobTitle(job)} of ${clockTime(job.created_at)} to compare`,
    onchange: () => choose(job, box.checked) });
  const link = make("a", { href: `#job/${job.id}`, textContent: jobTitle(job) });
  const text = [jobWhen(job), progressText(job)].filter(Boolean).join(" · ");
  const bar = job.status === "running" && job.progress
    ? make("progress", { max: 1, value: job.progress.fraction ?? 0, "aria-label": `Progress of ${jobTitle(job)}` }) : null;
  return make("li", {}, box, link, pill(job), endButton(job, refreshJobs), make("span", { className: "hint", textContent: text }), bar);
}

async function fetchJobs(after) {
  const query = new URLSearchParams({ limit: "20" });
  if ($("jobs-type").value) query.set("type", $("jobs-type").value);
  if ($("jobs-status").value) query.set("status", $("jobs-status").value);
  if (after) query.set("after", after);
  return getJson(`/v1/jobs?${query}`);
}

// A list that is drawn anew keeps the keyboard's place.
function drawJobs(page) {
  const list = $("jobs-list");
  const place = [...list.querySelectorAll("a, button, input")].indexOf(document.activeElement);
  list.replaceChildren(...jobs.shown.map(jobRow));
  if (place >= 0) list.querySelectorAll("a, button, input")[place]?.focus();
  $("jobs-none").hidden = jobs.shown.length > 0;
  $("jobs-more").hidden = !page.has_more;
}

async function refreshJobs() {
  const page = await fetchJobs();
  jobs.shown = page.data;
  drawJobs(page);
}

async function moreJobs() {
  const page = await fetchJobs(jobs.shown.at(-1).id);
  jobs.shown.push(...page.data);
  drawJobs(page);
}

// While something moves and the list is looked at. Older pages that were opened stay as they are.
async function watchJobs() {
  const PERIOD_MS = 2000, PAGE = 20;
  for (;;) {
    await sleep(PERIOD_MS);
    const looked = onPage($("jobs-list")) && document.visibilityState === "visible";
    if (looked && jobs.shown.length <= PAGE && jobs.shown.some((job) => !isFinal(job)))
      await refreshJobs().catch(showError);
  }
}

function initJobs() {
  $("jobs-type").onchange = $("jobs-status").onchange = guarded(refreshJobs);
  $("jobs-more").onclick = guarded(moreJobs);
  $("jobs-compare").onclick = () => {
    const ids = jobs.shown.map((job) => job.id).filter((id) => jobs.chosen.has(id));
    location.hash = `#compare/${ids.reverse().join("/")}`; // the older one is the base
  };
}
