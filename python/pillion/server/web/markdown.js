// ---- marked text: a text, and for each of its characters the drafted token it is of, or 0 ----

class Marked {
  constructor(text, marks) {
    this.text = text;
    this.marks = marks;
  }

  /** ranges: flat list of [begin, end) of drafted tokens, in order. */
  static of(text, ranges) {
    const marks = new Int32Array(text.length);
    for (let i = 0; i < ranges.length; i += 2) marks.fill(i / 2 + 1, ranges[i], ranges[i + 1]);
    return new Marked(text, marks);
  }

  static lines(parts) {
    const text = parts.map((part) => part.text).join("\n");
    const marks = new Int32Array(text.length);
    let at = 0;
    for (const part of parts) {
      marks.set(part.marks, at);
      at += part.text.length + 1;
    }
    return new Marked(text, marks);
  }

  slice(begin, end = this.text.length) {
    return new Marked(this.text.slice(begin, end), this.marks.subarray(begin, end));
  }

  split() {
    const lines = [];
    let begin = 0;
    for (let end; (end = this.text.indexOf("\n", begin)) >= 0; begin = end + 1) {
      lines.push(this.slice(begin, end));
    }
    lines.push(this.slice(begin));
    return lines;
  }

  /** Text nodes, and a span for each drafted token; the blanks around a row of them are plain. */
  put(parent) {
    const { text, marks } = this;
    for (let begin = 0, end; begin < text.length; begin = end) {
      const mark = marks[begin];
      for (end = begin + 1; end < text.length && marks[end] === mark; ) end++;
      const part = text.slice(begin, end);
      const blanks = mark && !marks[begin - 1] ? part.length - part.trimStart().length : 0;
      if (blanks || !mark) parent.append(mark ? part.slice(0, blanks) : part);
      if (mark && blanks < part.length) {
        parent.append(el("span", { class: "d", "data-token": mark }, part.slice(blanks)));
      }
    }
  }
}

// ---- Markdown: a subset, built as nodes; what is not understood stays text ----

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`\s]*)[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})\s+/;
const RULE = /^ {0,3}([-*_])(\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|(\d{1,9})[.)])( +|$)/;
const DIVIDER = /^ *\|?( *:?-+:? *\|)+( *:?-+:? *)?\|? *$/;
const DEEPEST = 6; // blocks in blocks, emphasis in emphasis: beyond that it is plain text
const LONGEST = 20000; // characters of a paragraph that is searched for emphasis

/** Cuts lines into blocks: {kind, lines, …}; the last one may still grow. */
function blocksOf(lines) {
  const blocks = [];
  for (let i = 0; i < lines.length; ) {
    if (!lines[i].text.trim()) {
      i++;
      continue;
    }
    const block = fence(lines, i) || oneLine(lines, i) || table(lines, i) || run(lines, i);
    blocks.push(block);
    i += block.n;
  }
  return blocks;

  function fence(lines, i) {
    const open = FENCE.exec(lines[i].text);
    if (!open) return null;
    const closes = ({ text }) =>
      text.trim().startsWith(open[1]) && !text.trim().replaceAll(open[1][0], "");
    let end = i + 1;
    while (end < lines.length && !closes(lines[end])) end++;
    return { kind: "code", language: open[2], lines: lines.slice(i + 1, end), n: end + 1 - i };
  }

  function oneLine(lines, i) {
    const heading = HEADING.exec(lines[i].text);
    if (heading) {
      const line = lines[i].slice(heading[0].length);
      return { kind: "heading", rank: heading[1].length, lines: [line], n: 1 };
    }
    return RULE.test(lines[i].text) ? { kind: "rule", lines: [], n: 1 } : null;
  }

  function table(lines, i) {
    const divider = lines[i + 1]?.text;
    if (!lines[i].text.includes("|") || !divider || !DIVIDER.test(divider)) return null;
    let end = i + 2;
    while (end < lines.length && lines[end].text.includes("|")) end++;
    return { kind: "table", lines: lines.slice(i, end), n: end - i };
  }

  /** What goes on line after line: quotes, lists, paragraphs. */
  function run(lines, i) {
    const isQuote = QUOTE.test(lines[i].text);
    const isList = ITEM.test(lines[i].text);
    const kind = isQuote ? "quote" : isList ? "list" : "text";
    let end = i + 1;
    while (end < lines.length && goesOn(lines, end, kind)) end++;
    return { kind, lines: lines.slice(i, end), n: end - i };
  }

  function goesOn(lines, i, kind) {
    const text = lines[i].text;
    if (kind === "quote") return QUOTE.test(text);
    if (kind === "list") {
      if (ITEM.test(text) || /^ {2,}\S/.test(text)) return true;
      if (text.trim()) return !begins(text, lines[i - 1]);
      const next = lines[i + 1]?.text ?? "";
      return ITEM.test(next) || (next.startsWith("  ") && next.trim() !== "");
    }
    return text.trim() !== "" && !ITEM.test(text) && !begins(text, null);
  }

  /** Whether a line begins a block of its own. before: a blank one ends a list. */
  function begins(text, before) {
    if (before && !before.text.trim()) return true;
    return [FENCE, HEADING, RULE, QUOTE].some((form) => form.test(text));
  }
}

function blockNode(block, depth) {
  switch (block.kind) {
    case "code": return codeNode(block);
    case "rule": return el("hr");
    case "table": return tableNode(block.lines);
    case "quote": return quoteNode(block.lines, depth);
    case "list": return listNode(block.lines, depth);
    case "heading": return inlineInto(el("h3", { class: `h${block.rank}` }), block.lines[0]);
    default: return inlineInto(el("p"), Marked.lines(block.lines));
  }
}

function blocksInto(parent, lines, depth) {
  if (depth > DEEPEST) Marked.lines(lines).put(parent);
  else for (const block of blocksOf(lines)) parent.append(blockNode(block, depth));
  return parent;
}

function codeNode(block) {
  const code = el("code");
  const text = Marked.lines(block.lines);
  text.put(code);
  const copy = el("button", { type: "button", class: "quiet small", "aria-label": "Copy the code" },
    icon("copy"), "Copy");
  copy.addEventListener("click", () => copyText(text.text));
  return el("div", { class: "code" },
    el("div", { class: "code-head" }, el("span", {}, block.language || "text"), copy),
    el("pre", { tabindex: "0" }, code));
}

function quoteNode(lines, depth) {
  const inside = lines.map((line) => line.slice(QUOTE.exec(line.text)[0].length));
  return blocksInto(el("blockquote"), inside, depth + 1);
}

function listNode(lines, depth) {
  const first = ITEM.exec(lines[0].text);
  const margin = first[1].length;
  const isNumbered = first[3] !== undefined;
  const list = el(isNumbered ? "ol" : "ul", isNumbered ? { start: first[3] } : {});
  let item = [];
  const close = () => item.length && list.append(blocksInto(el("li"), item, depth + 1));
  let width = 0;
  for (const line of lines) {
    const found = ITEM.exec(line.text);
    if (found && found[1].length <= margin + 1) {
      close();
      width = found[0].length;
      item = [line.slice(width)];
    } else {
      const indent = line.text.length - line.text.trimStart().length;
      item.push(line.slice(Math.min(indent, width)));
    }
  }
  close();
  return list;
}

function tableNode(lines) {
  const rows = lines.filter((_, i) => i !== 1).map(cellsOf);
  const row = (cells, tag) => el("tr", {}, ...cells.map((cell) => inlineInto(el(tag), cell)));
  const body = rows.slice(1).map((cells) => row(cells, "td"));
  return el("div", { class: "table", role: "region", tabindex: "0", "aria-label": "Table" },
    el("table", {}, el("thead", {}, row(rows[0], "th")), el("tbody", {}, ...body)));
}

function cellsOf(line) {
  const cells = [];
  const { text } = line;
  let begin = text.trimStart().startsWith("|") ? text.indexOf("|") + 1 : 0;
  for (let i = begin; i <= text.length; i++) {
    if (i < text.length && (text[i] !== "|" || text[i - 1] === "\\")) continue;
    const cell = text.slice(begin, i);
    const left = begin + cell.length - cell.trimStart().length;
    if (i < text.length || cell.trim()) cells.push(line.slice(left, left + cell.trim().length));
    begin = i + 1;
  }
  return cells;
}

const LINK = /\[([^[\]]*)\]\((https?:\/\/[^\s()<>]+(?:\([^\s()<>]*\)[^\s()<>]*)*)\)/y;
const BARE = /https?:\/\/[^\s<>"'`|]*[^\s<>"'`|.,:;!?)\]*_]/y;
const STYLES = [["**", "strong"], ["__", "strong"], ["~~", "del"], ["*", "em"], ["_", "em"]];

/** Emphasis, code, links; `line` may hold line ends. */
function inlineInto(parent, line, depth = 0) {
  const { text } = line;
  if (depth > DEEPEST || text.length > LONGEST) {
    line.put(parent);
    return parent;
  }
  const missing = new Set(); // marks that are not closed in what is left
  let plain = 0;
  const flush = (end) => line.slice(plain, end).put(parent);
  for (let i = 0; i < text.length; ) {
    const found = inlineAt(line, i, missing, depth);
    if (!found) {
      i++;
      continue;
    }
    flush(i);
    if (found.node) parent.append(found.node);
    plain = found.plain ?? found.end;
    i = found.end;
  }
  flush(text.length);
  return parent;
}

/** The element that begins at `i`: {node, end}; an escape: {plain, end}; or null. */
function inlineAt(line, i, missing, depth) {
  const { text } = line;
  switch (text[i]) {
    case "\\": return /[!-/:-@[-`{-~]/.test(text[i + 1]) ? { plain: i + 1, end: i + 2 } : null;
    case "`": return codeAt(line, i, missing);
    case "[": return linkAt(line, i, LINK, depth);
    case "h": return i === 0 || /[^\w/]/.test(text[i - 1]) ? linkAt(line, i, BARE, depth) : null;
    case "*": case "_": case "~": return emphasisAt(line, i, missing, depth);
    default: return null;
  }
}

function codeAt(line, i, missing) {
  const { text } = line;
  const ticks = /`+/y;
  ticks.lastIndex = i;
  const mark = ticks.exec(text)[0];
  const end = missing.has(mark) ? -1 : text.indexOf(mark, i + mark.length);
  if (end < 0) {
    missing.add(mark);
    return { plain: i, end: i + mark.length };
  }
  const node = el("code");
  const inside = line.slice(i + mark.length, end);
  const isPadded = /^ .*[^ ].* $/s.test(inside.text);
  (isPadded ? inside.slice(1, -1) : inside).put(node);
  return { node, end: end + mark.length };
}

/** Only http and https become links. */
function linkAt(line, i, form, depth) {
  form.lastIndex = i;
  const found = form.exec(line.text);
  if (!found) return null;
  const href = found[2] ?? found[0];
  const node = el("a", { href, rel: "noopener noreferrer", target: "_blank" });
  if (form === BARE) line.slice(i, i + found[0].length).put(node);
  else inlineInto(node, line.slice(i + 1, i + 1 + found[1].length), depth + DEEPEST);
  return { node, end: i + found[0].length };
}

function emphasisAt(line, i, missing, depth) {
  const { text } = line;
  for (const [mark, tag] of STYLES) {
    const begin = i + mark.length;
    if (!text.startsWith(mark, i) || missing.has(mark) || !/\S/.test(text[begin] ?? " ")) continue;
    if (mark[0] === "_" && /\w/.test(text[i - 1] ?? " ")) continue;
    const end = closeOf(text, mark, begin);
    if (end < 0) {
      missing.add(mark);
      continue;
    }
    const node = inlineInto(el(tag), line.slice(begin, end), depth + 1);
    return { node, end: end + mark.length };
  }
  return null;
}

function closeOf(text, mark, begin) {
  for (let end = begin; (end = text.indexOf(mark, end + 1)) >= 0; ) {
    const after = text[end + mark.length] ?? " ";
    if (mark.length === 1 && (after === mark || text[end - 1] === mark)) continue;
    if (/\S/.test(text[end - 1]) && (mark[0] !== "_" || !/\w/.test(after))) return end;
  }
  return -1;
}

/** A text that grows: only blocks that changed are made anew. */
class Prose {
  constructor() {
    this.node = el("div", { class: "prose" });
    this.keys = [];
  }

  /** isJson: it is shown as it is, in one block of code. */
  show(text, ranges, isJson = false) {
    const lines = Marked.of(text, ranges).split();
    const blocks = isJson && text ? [{ kind: "code", language: "JSON", lines }] : blocksOf(lines);
    const keys = blocks.map((block) => `${block.kind} ${Marked.lines(block.lines).text}`);
    keys.forEach((key, i) => {
      const isSame = key === this.keys[i] && i < blocks.length - 1;
      if (isSame) return;
      const node = blockNode(blocks[i], 0);
      if (i < this.node.children.length) this.node.children[i].replaceWith(node);
      else this.node.append(node);
    });
    while (this.node.children.length > keys.length) this.node.lastChild.remove();
    this.keys = keys.slice(0, -1);
  }
}
