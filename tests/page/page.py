#!/usr/bin/env python3
"""page.py - the page at / as people use it, in a browser against a running server: node state, a prompt
with streaming, a job from its form to its report, resumed events, cancel, delete, compare, the API key;
by keyboard alone, on a phone's width, light and dark.

Usage: page.py --url http://127.0.0.1:8080 --keyed-url http://127.0.0.1:8081 --key KEY --shots build/page
"""

import argparse
import json
import socket
import sys
import threading
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import html5lib
from browser import PHONE, WIDE, Browser, run
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--url", required=True)
parser.add_argument("--keyed-url", required=True)
parser.add_argument("--key", required=True)
parser.add_argument("--shots", type=Path, required=True)
args = parser.parse_args()
URL = args.url
ALLOWED = [URL, args.keyed_url, "data:", "blob:", "about:"]
browser = Browser(args.shots)
driver = browser.driver


def api(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=120) as reply:
        text = reply.read()
        return json.loads(text) if text else None


TYPES = [t["name"] for t in api("GET", "/v1/job-types")["data"]]


def submit(**fields):
    return api("POST", "/v1/jobs", {"type": "self_test", **fields})["id"]


def wait_status(job, *statuses):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        status = api("GET", f"/v1/jobs/{job}")["status"]
        if status in statuses:
            return status
        time.sleep(0.05)
    raise AssertionError(f"{job} is {status}, not one of {statuses}")


def open_view(view, url=URL):
    driver.get("about:blank")  # a new document, whatever was there
    driver.get(f"{url}/#{view}")
    name = view.split("/")[0]
    browser.until("return document.title.includes('·') && !document.getElementById(arguments[0]).hidden",
                  view, f"view-{name}")


def text(element_id):
    return browser.js("return document.getElementById(arguments[0]).innerText", element_id)


def press(*keys):
    ActionChains(driver).send_keys(*keys).perform()


def tab_to(script, what):
    """Press Tab until the focused element (`e`) satisfies the script."""
    for _ in range(80):
        press(Keys.TAB)
        if browser.js(f"const e = document.activeElement; return {script}"):
            return
    raise AssertionError(f"the keyboard does not reach {what}")


def report_js(script):
    """What a script finds in the report's document `d`, once there is one."""
    return browser.until("const d = document.querySelector('#view-job iframe, #view-compare "
                         "iframe')?.contentDocument; return d?.querySelector('main') && (() => {"
                         + script + "})()", "the report")


# --- the page itself ------------------------------------------------------------------------

def test_page_is_valid_and_alone():
    page = urllib.request.urlopen(URL + "/", timeout=60)
    body = page.read()
    html5lib.HTMLParser(strict=True).parse(body)
    etag = page.headers["ETag"]
    again = urllib.request.Request(URL + "/", headers={"If-None-Match": etag})
    try:
        urllib.request.urlopen(again, timeout=60)
        raise AssertionError("not 304")
    except urllib.error.HTTPError as e:
        assert e.code == 304 and e.headers["ETag"] == etag
    open_view("ask")
    assert not browser.console()


def test_node_state():
    open_view("ask")
    model = api("GET", "/v1/models")["data"][0]
    browser.until("return document.getElementById('node').innerText.includes('ready')", "the node's state")
    state = text("node")
    assert model["id"] in state and "KV pages" in state and "0 of" in state, state
    assert api("GET", "/version")["device"] in state, state


# --- prompts --------------------------------------------------------------------------------

ANSWER = "return document.querySelector('#ask-log article:last-child > div:last-of-type')?.textContent"


def start_prompt(prompt, tokens, mode="completion"):
    open_view("ask")
    browser.until("return document.getElementById('node').innerText.includes('ready')", "ready")
    browser.js("document.getElementById('ask-mode').value = arguments[0];"
               "document.getElementById('ask-max').value = arguments[1]; "
               "document.getElementById('ask-temperature').value = 0", mode, tokens)
    driver.find_element(By.ID, "ask-text").send_keys(prompt, Keys.CONTROL, Keys.ENTER)


def test_completion_streams():
    start_prompt("It was a dark and stormy night;", 200)
    busy = "document.getElementById('ask-log').getAttribute('aria-busy') === 'true'"
    first = browser.until(f"{ANSWER} && {busy} && ({ANSWER.removeprefix('return ')})", "a first piece")
    browser.until(f"return !({busy})", "the end of the answer")
    whole = browser.js(ANSWER)
    assert whole.startswith(first) and len(whole) > len(first), (first, whole)
    body = {"prompt": "It was a dark and stormy night;", "max_tokens": 200, "temperature": 0}
    assert whole == api("POST", "/v1/completions", body)["choices"][0]["text"]
    facts = browser.js("return document.querySelector('#ask-log article:last-child p').textContent")
    assert "tokens, first after" in facts, facts
    assert text("announce") == "The answer is complete."
    browser.shot("ask_answer_wide_light")


def test_chat_goes_on():
    start_prompt("The secret code of Anna is 48213. What is the secret code of Anna?", 24, "chat")
    done = "return document.getElementById('ask-log').getAttribute('aria-busy') === 'false'"
    browser.until(done, "the first answer")
    first = browser.js(ANSWER)
    driver.find_element(By.ID, "ask-text").send_keys("And again?", Keys.CONTROL, Keys.ENTER)
    browser.until("return document.querySelectorAll('#ask-log article').length === 4", "four turns")
    browser.until(done, "the second answer")
    messages = [{"role": "user", "content": "The secret code of Anna is 48213. What is the secret code of Anna?"},
                {"role": "assistant", "content": first}, {"role": "user", "content": "And again?"}]
    expected = api("POST", "/v1/chat/completions", {"messages": messages, "max_tokens": 24, "temperature": 0,
                                                    "top_p": 0.95})
    assert browser.js(ANSWER) == expected["choices"][0]["message"]["content"]


def test_buttons_stay_while_an_answer_grows():
    start_prompt("Once upon a time", 4000)
    place = "return document.getElementById('ask-stop').getBoundingClientRect().top + scrollY"
    browser.until(ANSWER, "a first piece")
    first = browser.js(place)
    browser.until(f"return ({ANSWER.removeprefix('return ')}).length > 1500", "many lines of it")
    assert browser.js(place) == first
    browser.js("document.getElementById('ask-stop').click()")
    browser.until("return !document.getElementById('ask-send').disabled", "the end of the answer")


def test_stop_ends_an_answer():
    start_prompt("Once upon a time", 4000)
    browser.until(ANSWER, "a first piece")
    driver.find_element(By.ID, "ask-stop").click()
    browser.until("return !document.getElementById('ask-send').disabled", "the end of the answer")
    assert text("alert") == "", "stopping is no error"
    browser.until("return document.getElementById('node').innerText.includes('running\\n0')", "an idle node")


def test_refused_prompts_say_why():
    start_prompt("a", 10**9)
    shown = browser.until("return document.getElementById('alert').innerText", "the refusal")
    assert "max_tokens" in shown, shown
    assert browser.js("return document.getElementById('ask-text').value") == "a", "the text is kept"


# --- jobs -----------------------------------------------------------------------------------

def test_job_by_keyboard_alone():
    """From the top of the page to a finished report without a pointer."""
    open_view("ask")
    tab_to("e.hash === '#measure'", "the link to Measure")
    press(Keys.ENTER)
    browser.until("return document.querySelectorAll('#job-type option').length", "the kinds of jobs")
    browser.until("return document.activeElement.id === 'measure-title'", "the heading's focus")
    tab_to("e.id === 'job-type'", "the kind")
    press("self")  # a select takes the first letters
    assert browser.js("return document.getElementById('job-type').value") == "self_test"
    tab_to("document.querySelector(`label[for=${e.id}]`)?.innerText === 'seconds'", "the field")
    press(Keys.CONTROL, "a")
    press("3")
    assert '{"type":"self_test","spec":{"seconds":3}}' in browser.js(
        "return document.getElementById('job-curl').textContent")
    tab_to("e.id === 'job-check'", "the check")
    press(Keys.ENTER)
    browser.until("return document.getElementById('job-estimate').innerText.includes('3.0 s')", "an estimate")
    browser.js("document.getElementById('job-type').focus()")
    tab_to("e.matches('#job-form button.primary')", "the button")
    press(Keys.ENTER)
    browser.until("return location.hash.startsWith('#job/')", "the job's view")
    seen = set()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not browser.js("return document.querySelector('#job-report iframe')"):
        seen.add(browser.js("const b = document.getElementById('job-bar');"
                            "return document.getElementById('job-progress').hidden ? 1 : b.value"))
        if 0.3 < max(seen) < 0.9 and "mid" not in globals():
            globals()["mid"] = True
            browser.shot("job_running_wide_light")
    assert sum(0 < v < 1 for v in seen) > 5, f"progress seen: {sorted(seen)}"
    rows = report_js("return d.querySelectorAll('tbody tr').length")
    assert rows > 6, rows
    assert "succeeded" in text("job-line")
    assert "The job succeeded." == text("announce")
    browser.shot("job_done_wide_light")


class Cable:
    """A way to the server that can be pulled out: what goes to the port of this is passed on."""

    def __init__(self):
        self.pairs, self.plugged = [], True
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            if not self.plugged:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", urlsplit(URL).port))
            self.pairs += [client, server]
            for a, b in ((client, server), (server, client)):
                threading.Thread(target=self.copy, args=(a, b), daemon=True).start()

    @staticmethod
    def copy(a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # pulled out

    def pull(self):
        self.plugged = False
        for s in self.pairs:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # closed by its other end
        self.pairs = []


def test_events_resume_after_a_lost_connection():
    cable = Cable()
    job = submit(spec={"seconds": 4})
    open_view(f"job/{job}", cable.url)
    caption = "document.querySelector('#job-samples caption')?.textContent"
    browser.until(f"return /^[2-9]\\d/.test({caption})", "samples")
    cable.pull()
    time.sleep(1)
    before = browser.js(f"return parseInt({caption})")
    cable.plugged = True
    report_js("return 1")
    events, after = [], 0
    while True:
        page = api("GET", f"/v1/jobs/{job}/events?format=json&limit=1000&after={after}")
        events += page["data"]
        after = page["last_id"]
        if not page["has_more"]:
            break
    samples = sum(e["event"] == "sample" for e in events)
    assert before < samples, "the connection was not lost in the middle"
    browser.until(f"return {caption}.startsWith(arguments[0])", "each sample once", f"{samples} samples")
    asked = sum(url.endswith(f"{job}/events") for url in browser.requested())
    assert asked >= 2, "the events were not asked for again"
    ALLOWED.append(cable.url)
    browser.console()  # what the lost connection left there


def test_wrong_settings_are_told_at_their_field():
    open_view("measure")
    browser.js("const s = document.getElementById('job-type'); s.value = 'self_test'; s.onchange()")
    field = browser.until("return document.querySelector('#job-spec input')", "the form")
    field.clear()
    field.send_keys("-1")
    driver.find_element(By.CSS_SELECTOR, "#job-form button.primary").click()
    browser.until("return document.querySelector('#job-spec [aria-invalid=true]')", "the field at fault")
    shown = browser.js("return document.querySelector('#job-spec .error:not([hidden])').innerText")
    assert "seconds" in shown and "-1" in shown, shown
    assert browser.js("return document.activeElement.getAttribute('aria-invalid')") == "true"
    assert location() == "#measure"
    browser.shot("measure_error_wide_light")
    browser.console()  # a 400 is a complaint of the console's


def location():
    return browser.js("return location.hash")


def test_cancel_and_delete():
    job = submit(spec={"seconds": 60}, name="to be cancelled <b>")
    open_view(f"job/{job}")
    browser.until("return document.querySelector('#job-samples caption')", "samples")
    assert text("job-title") == "to be cancelled <b>"
    driver.find_element(By.CSS_SELECTOR, "#job-actions button").click()
    assert wait_status(job, "cancelled") == "cancelled"
    partial = report_js("return d.querySelector('header').innerText")
    assert "Partial" in partial, partial
    browser.shot("job_cancelled_wide_light")
    [delete] = [b for b in driver.find_elements(By.CSS_SELECTOR, "#job-actions button") if b.text == "Delete"]
    delete.click()
    driver.switch_to.alert.accept()
    browser.until("return location.hash === '#jobs'", "the list")
    browser.until("return !document.getElementById('jobs-list').innerText.includes('to be cancelled')", "it is gone")
    try:
        api("GET", f"/v1/jobs/{job}")
        raise AssertionError("it is still there")
    except urllib.error.HTTPError as e:
        assert e.code == 404


def test_run_again_keeps_the_settings():
    job = submit(spec={"seconds": 0.5})
    wait_status(job, "succeeded")
    open_view(f"job/{job}")
    report_js("return 1")
    [again] = [b for b in driver.find_elements(By.CSS_SELECTOR, "#job-actions button") if b.text == "Run again"]
    again.click()
    browser.until("return !document.getElementById('view-measure').hidden", "the form")
    assert '"spec":{"seconds":0.5}' in browser.js("return document.getElementById('job-curl').textContent")


def test_list_moves_and_filters():
    job = submit(spec={"seconds": 3}, name="watched")
    open_view("jobs")
    row = ("[...document.querySelectorAll('#jobs-list li')].find((li) => "
           "li.innerText.includes('watched'))")
    browser.until(f"return {row}?.querySelector('progress')", "its progress")
    browser.shot("jobs_running_wide_light")
    browser.until(f"return {row}?.innerText.includes('succeeded')", "its end without a reload")
    browser.js("const s = document.getElementById('jobs-status'); s.value = 'cancelled'; s.onchange()")
    browser.until(f"return !{row}", "the filter")
    api("DELETE", f"/v1/jobs/{job}")


def measuring_job(i):
    """A job with plots and rows that can be compared, where this server has such a kind."""
    if "kernel_benchmark" in TYPES:
        spec = {"chunks": [32, 64], "methods": ["auto", "merge"], "types": ["fp32", "int8"], "caches": "warm",
                "tokens": 256, "rounds": 2, "seconds_min": 0.01, "seconds_max": 0.02}
        return submit(type="kernel_benchmark", name=f"arm {i}", spec=spec)
    return submit(spec={"seconds": 1}, name=f"arm {i}")


def test_compare_two():
    ids = [measuring_job(i) for i in range(2)]
    for job in ids:
        wait_status(job, "succeeded")
    open_view("jobs")
    for box in browser.until("const rows = [...document.querySelectorAll('#jobs-list li')].filter((li) => "
                             "li.innerText.includes('arm ')); return rows.length === 2 && rows.map((li) => "
                             "li.querySelector('input'))", "both jobs"):
        box.click()
    driver.find_element(By.ID, "jobs-compare").click()
    browser.until("return location.hash.startsWith('#compare/')", "the comparison")
    assert location() == f"#compare/{ids[0]}/{ids[1]}", "the older one is the base"
    findings = report_js("return d.querySelector('tbody').innerText")
    assert any(word in findings for word in ("SAME", "FASTER", "SLOWER", "AMBIGUOUS")), findings
    browser.shot("compare_wide_light")


def test_plots_of_a_job():
    if "kernel_benchmark" not in TYPES:
        print("skip: plots of a live job: this server has no kernel_benchmark")
        return
    job = measuring_job("with plots")
    wait_status(job, "succeeded")
    open_view(f"job/{job}")
    plots = report_js("return [...d.querySelectorAll('figure > svg')].map((s) => s.getBoundingClientRect().height)")
    assert plots and all(height > 60 for height in plots), plots
    assert report_js("return d.querySelectorAll('.mark, .bar').length")
    # The style of the report passes the page's policy: ink is not the browser's default.
    assert report_js("return d.defaultView.getComputedStyle(d.querySelector('.grid')).strokeWidth") == "1px"
    browser.shot("plots_wide_light")


def test_reports_are_dressed_and_run_nothing():
    job = submit(spec={"seconds": 0})
    wait_status(job, "succeeded")
    open_view(f"job/{job}")
    assert report_js("return d.defaultView.getComputedStyle(d.querySelector('table')).borderCollapse") == "collapse"
    sandbox = browser.js("return document.querySelector('#job-report iframe').getAttribute('sandbox')")
    assert sandbox == "allow-same-origin", sandbox
    inside, outside = browser.js("const f = document.querySelector('#job-report iframe'); return "
                                 "[f.contentDocument.documentElement.scrollHeight, f.clientHeight]")
    assert outside >= inside, "the frame scrolls on its own"


# --- key, screens ---------------------------------------------------------------------------

def test_key_is_asked_for_and_kept():
    driver.get("about:blank")
    driver.get(f"{args.keyed_url}/#jobs")
    for key in ("wrong", args.key):
        field = browser.until("const k = document.getElementById('key'); return !k.hidden && "
                              "document.getElementById('key-input')", "the question for a key")
        field.send_keys(key, Keys.ENTER)
        time.sleep(0.3)
    browser.until("return document.getElementById('key').hidden && "
                  "!document.getElementById('jobs-none').hidden", "the list")
    driver.refresh()
    browser.until("return !document.getElementById('jobs-none').hidden", "the list")
    assert browser.js("return document.getElementById('key').hidden"), "asked again in the same tab"
    browser.console()  # 401s


def test_screens_and_colours():
    job = submit(spec={"seconds": 0})
    wait_status(job, "succeeded")
    for view in ("ask", "measure", "jobs", f"job/{job}"):
        for size, width in ((WIDE, "wide"), (PHONE, "phone")):
            for dark in (False, True):
                browser.screen(size, dark)
                open_view(view)
                browser.until("return document.getElementById('node').innerText.includes('slots')", "the node")
                if view.startswith("job/"):
                    report_js("return 1")
                what = f"{view.split('/')[0]}_{width}_{'dark' if dark else 'light'}"
                browser.check_fits(what)
                browser.check_axe(what)
                browser.shot(what)
    browser.screen()


def test_no_outside_request_and_a_quiet_console():
    outside = [url for url in browser.requested()
               if not url.startswith(tuple(ALLOWED))]
    assert not outside, outside
    complaints = browser.console()
    assert not complaints, complaints


try:
    status = run(dict(globals()), browser)
finally:
    browser.quit()
sys.exit(status)
