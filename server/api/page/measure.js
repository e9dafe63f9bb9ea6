// measure.js - the form of a new job: kinds and their schemas from GET /v1/job-types.
const measure = { types: [], fields: [], required: [], key: "" };

async function loadTypes() {
  if (measure.types.length) return;
  measure.types = (await getJson("/v1/job-types")).data;
  for (const type of measure.types) {
    $("job-type").append(make("option", { value: type.name, textContent: words(type.name) }));
    $("jobs-type").append(make("option", { value: type.name, textContent: words(type.name) }));
  }
  showType();
}

const chosenType = () => measure.types.find((type) => type.name === $("job-type").value);

// A key a submission: pressing the button twice makes one job.
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  measure.key = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// The form of the chosen type, filled with its defaults or with the spec of an earlier job.
function showType(spec) {
  const type = chosenType();
  if (!type) return;
  const properties = Object.entries(type.schema.properties ?? {});
  const value = (key, schema) => spec?.[key] ?? type.defaults?.[key] ?? schema.default;
  measure.fields = properties.map(([key, schema]) => makeField(key, schema, value(key, schema), `spec.${key}`));
  measure.required = type.schema.required ?? [];
  // What an earlier job said counts as changed.
  if (spec)
    for (const field of measure.fields) field.changed = () => true;
  const estimate = type.estimated_seconds;
  $("job-about").textContent = `${type.title}.${estimate ? ` About ${duration(estimate)} as it stands.` : ""}`;
  $("job-spec").replaceChildren(make("legend", { textContent: "Settings" }),
    make("div", { className: "fields" }, ...measure.fields.map((field) => field.node)));
  $("job-estimate").textContent = "";
  newKey();
  showCurl();
}

function jobRequest() {
  const body = { type: $("job-type").value, spec: readFields(measure.fields, measure.required) };
  if ($("job-name").value) body.name = $("job-name").value;
  if ($("job-priority").valueAsNumber) body.priority = $("job-priority").valueAsNumber;
  if ($("job-timeout").value) body.timeout_s = $("job-timeout").valueAsNumber;
  if ($("job-exclusive").value) body.exclusive = $("job-exclusive").value === "true";
  return body;
}

function showCurl() {
  let body;
  try {
    body = JSON.stringify(jobRequest());
  } catch {
    return; // a field is half typed
  }
  const key = sessionStorage.getItem(KEY_NAME) ? " -H \"Authorization: Bearer $KEY\"" : "";
  $("job-curl").textContent =
    `curl -sS ${location.origin}/v1/jobs -H 'Content-Type: application/json'${key} \\\n  -d '${body.replaceAll("'", "'\\''")}'`;
}

// A refused request's reason stands at its field, or above the page when it is about none.
async function postJob(extra) {
  clearError();
  showProblem(measure.fields, null);
  try {
    const headers = extra.validate_only ? {} : { "Idempotency-Key": measure.key };
    return await postJson("/v1/jobs", { ...jobRequest(), ...extra }, { headers });
  } catch (error) {
    if (error.code === "idempotency_key_reused") newKey();
    if (!(error instanceof ApiError && showProblem(measure.fields, error))) showError(error);
    return null;
  }
}

async function checkJob() {
  const plan = await postJob({ validate_only: true });
  if (plan) $("job-estimate").textContent = `This is fine and takes about ${duration(plan.estimated_seconds)}.`;
}

async function submitJob(event) {
  event.preventDefault();
  const job = await postJob({});
  if (!job) return;
  announce("The job is submitted.");
  newKey();
  location.hash = `#job/${job.id}`;
}

function initMeasure() {
  $("job-type").onchange = () => showType();
  $("job-form").onsubmit = submitJob;
  $("job-form").oninput = () => {
    newKey();
    showCurl();
  };
  $("job-check").onclick = checkJob;
}
