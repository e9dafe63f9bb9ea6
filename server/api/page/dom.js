// dom.js - small helpers: elements, words for numbers and times, what is said aloud. Texts are always set
// as text, never as markup.
const $ = (id) => document.getElementById(id);

// An element; props are properties (textContent, onclick, className) or, with a dash, attributes.
function make(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// For those who hear the page: one short sentence, when something ended or failed.
function announce(text) {
  $("announce").textContent = text;
}

function showError(error) {
  if (error.name === "AbortError") return;
  $("alert").replaceChildren(error.message);
}

function clearError() {
  $("alert").replaceChildren();
}

// A click's handler that shows what went wrong.
function guarded(action) {
  return async (event) => {
    clearError();
    try {
      await action(event);
    } catch (error) {
      showError(error);
    }
  };
}

function words(name) {
  return String(name).replaceAll("_", " ");
}

function duration(seconds) {
  if (!(seconds >= 0)) return "";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 100) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 90 ? `${minutes} min ${Math.round(seconds % 60)} s` : `${(minutes / 60).toFixed(1)} h`;
}

function shortNumber(n) {
  const units = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]];
  const unit = units.find(([size]) => Math.abs(n) >= size);
  if (!unit) return String(Number.isInteger(n) ? n : Number(n.toPrecision(4)));
  return `${Number((n / (unit[0] === 1e4 ? 1e3 : unit[0])).toPrecision(3))} ${unit[1]}`;
}

function clockTime(seconds) {
  return new Date(seconds * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

function onPage(element) {
  return element.isConnected && !element.closest("[hidden]");
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
