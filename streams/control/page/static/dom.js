// Elements without markup: text from data goes through textContent only, so it can never become an element.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

// A number between 0 and 1 as a custom property: the style sheet draws a bar of that length.
export function share(node, value) {
  node.style.setProperty("--share", String(Math.max(0, Math.min(1, value))));
  return node;
}

// Show `items` in `parent`, one node each. A node whose item has not changed stays as it is; one that is made anew keeps
// what a person did to it: what is open stays open, and what has the focus keeps it.
export function keyed(parent, items, key, make) {
  const before = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  const nodes = items.map((item) => {
    const name = String(key(item));
    const print = JSON.stringify(item);
    const old = before.get(name);
    if (old && old.print === print) return old;
    const node = make(item);
    node.dataset.key = name;
    node.print = print;
    if (old) inherit(old, node);
    return node;
  });
  if (nodes.length === parent.children.length && nodes.every((node, i) => node === parent.children[i])) return;
  const focus = focusIn(parent);
  parent.replaceChildren(...nodes);
  refocus(parent, focus);
}

// Replace everything in `parent`, and keep the focus where it was.
export function replace(parent, ...children) {
  const focus = focusIn(parent);
  const open = new Set([...parent.querySelectorAll("details[open][data-open]")].map((node) => node.dataset.open));
  parent.replaceChildren(...children.flat().filter(Boolean));
  for (const node of parent.querySelectorAll("details[data-open]")) node.open = open.has(node.dataset.open);
  refocus(parent, focus);
}

function inherit(old, node) {
  const opened = foldable(old);
  foldable(node).forEach((found, i) => { found.open = opened[i]?.open ?? false; });
}

const foldable = (node) => [...(node.matches("details") ? [node] : []), ...node.querySelectorAll("details")];

function focusIn(parent) {
  const active = document.activeElement;
  return active && parent.contains(active) ? active.dataset.focus ?? null : null;
}

function refocus(parent, name) {
  if (name === null || name === undefined) return;
  [...parent.querySelectorAll("[data-focus]")].find((node) => node.dataset.focus === name)?.focus({preventScroll: true});
}

export function empty(sentence, ...more) {
  return el("p", {class: "empty"}, sentence, ...more);
}

export const code = (text) => el("code", {}, text);

// A table with a caption that is read out, and shown where `visible`.
export function table(caption, columns, rows, {visible = false} = {}) {
  return el("table", {},
    el("caption", {class: visible ? null : "hidden"}, caption),
    el("thead", {}, el("tr", {}, columns.map((column) => el("th", {scope: "col", class: column.class}, column.label)))),
    el("tbody", {}, rows));
}
