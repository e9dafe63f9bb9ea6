// main.js - which view the address names, and the start.
const VIEWS = {
  ask: async () => {},
  measure: loadTypes,
  jobs: async () => {
    await loadTypes();
    await refreshJobs();
  },
  job: async (id) => {
    await loadTypes();
    await openJob(id);
  },
  compare: openComparison,
};

const showView = guarded(async () => {
  const [name, ...rest] = location.hash.slice(1).split("/");
  const view = name in VIEWS ? name : "ask";
  closeJob();
  for (const one of Object.keys(VIEWS)) $(`view-${one}`).hidden = one !== view;
  const current = { job: "jobs", compare: "jobs" }[view] ?? view;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${current}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  await VIEWS[view](...rest.map(encodeURIComponent));
  const title = $(`view-${view}`).querySelector("h2");
  document.title = `${title.textContent} · deltaserve`;
  if (name in VIEWS) title.focus({ preventScroll: true });
});

initAsk();
initMeasure();
initJobs();
window.onhashchange = showView;
showView();
watchNode();
watchJobs();
