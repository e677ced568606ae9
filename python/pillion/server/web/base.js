// ---- small helpers ----

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const percent = (share) => `${Math.round(100 * share)} %`;

/** An element. "on…" are listeners, true and false set or omit an attribute, children are text
    or nodes. */
function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (typeof value === "boolean") node.toggleAttribute(name, value);
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

function icon(name) {
  return svg("svg", { class: "icon", "aria-hidden": "true" }, svg("use", { href: `#i-${name}` }));
}

function iconButton(name, label, action, kind = "quiet small round") {
  const named = { "aria-label": label, title: label };
  return el("button", { type: "button", class: kind, onclick: action, ...named }, icon(name));
}

function plural(n, word) {
  return `${whole.format(n)} ${word}${n === 1 ? "" : "s"}`;
}
