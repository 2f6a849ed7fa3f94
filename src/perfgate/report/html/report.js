"use strict";
// Adds sorting, filtering and copying to what is already on the page. Nothing here writes markup: only texts and states.
document.documentElement.classList.add("scripts");

document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll("table")) if (table.tHead) sortable(table);
  const cases = document.getElementById("cases");
  if (cases) filterable(cases);
  for (const code of document.querySelectorAll("code.copy")) copyable(code);
});

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  const original = [...table.tBodies];
  heads.forEach((head, column) => {
    if (!("sort" in head.dataset)) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const next = now === "ascending" ? "descending" : now === "descending" ? null : "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      if (next) head.setAttribute("aria-sort", next);
      table.append(...(next ? ordered(original, column, next === "descending") : original));
    });
  });
}

function ordered(bodies, column, descending) {
  const keyed = bodies.map((body) => [body, key(body.rows[0].cells[column])]);
  const sign = descending ? -1 : 1;
  keyed.sort(([, a], [, b]) => {
    // What has no figure comes last, whichever way.
    if (a === "" || b === "") return (a === "") - (b === "");
    if (typeof a === "number" && typeof b === "number") return sign * (a - b);
    return sign * String(a).localeCompare(String(b), "en", { numeric: true });
  });
  return keyed.map(([body]) => body);
}

function key(cell) {
  const text = cell ? (cell.dataset.s ?? cell.textContent) : "";
  return text !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
}

function filterable(table) {
  const field = document.getElementById("filter");
  const choice = document.getElementById("key");
  const boxes = [...document.querySelectorAll("[data-verdict]")];
  const shown = document.getElementById("shown");
  const bodies = [...table.tBodies];
  const texts = new Map();
  const apply = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    const verdicts = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    let count = 0;
    for (const body of bodies) {
      let fits = verdicts.has(body.dataset.v) && (!choice || !choice.value || choice.value === body.dataset.k);
      if (fits && words.length) {
        if (!texts.has(body)) texts.set(body, `${body.textContent} ${body.dataset.k}`.toLowerCase());
        fits = words.every((word) => texts.get(body).includes(word));
      }
      body.hidden = !fits;
      count += fits;
    }
    shown.textContent = `${count} of ${bodies.length} shown`;
  };
  field.form.addEventListener("input", apply);
  field.form.addEventListener("submit", (event) => event.preventDefault());
  // A browser may bring back what was typed before the page was left.
  apply();
}

function copyable(code) {
  if (!navigator.clipboard) return;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copied";
  button.textContent = "copy";
  button.setAttribute("aria-label", `copy ${code.textContent.slice(0, 60)}`);
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "copied";
    setTimeout(() => (button.textContent = "copy"), 1500);
  });
  code.after(button);
}
