// ---- showing ----

let views = []; // of the messages shown, in their order
let soon = 0;

function showSoon(run) {
  if (run.chat !== state.chat || soon) return;
  soon = requestAnimationFrame(() => {
    soon = 0;
    const shown = state.runs.get(state.chat.id);
    if (!shown) return;
    views.at(-1)?.update();
    announce(shown);
    scrollDown(false);
    if (performance.now() - shown.savedAt > 1000) {
      shown.savedAt = performance.now();
      saveIfKept(shown.chat);
    }
  });
}

function showAll() {
  showHead();
  showChats();
  showEmpty();
  showMessages();
  showComposer();
}

function showHead() {
  const { chat, model } = state;
  $("title").textContent = titleOf(chat);
  document.title = chat.title ? `${chat.title} – pillion` : "pillion";
  $("model-name").textContent = model.name;
  $("model-name").title = model.name;
  const usage = chat.messages.findLast((message) => message.figures?.usage)?.figures.usage;
  const used = usage?.total_tokens ?? 0;
  $("context").hidden = !model.size || !used;
  if (!model.size) return;
  const sentence = `${whole.format(used)} of ${whole.format(model.size)} tokens of context used`;
  $("context").setAttribute("aria-label", sentence);
  $("context").title = sentence;
  $("context").querySelector("span").textContent = percent(used / model.size);
  const share = Math.min(100, (100 * used) / model.size);
  $("context").querySelector(".used").setAttribute("stroke-dasharray", `${share} 100`);
}

const EXAMPLES = {
  tiny: [["In the beginning", "it goes on as it likes"],
    ["Read Psalms 23.", "in the manner of a psalm"],
    ["And it came to pass", "a story of kings"]],
  other: [["Explain speculative decoding in three sentences.", "an explanation"],
    ["Write a haiku about two riders on one motorcycle.", "a poem"],
    ["Compare tea and coffee in a table.", "a table"]],
};

function showEmpty() {
  const isEmpty = !state.chat.messages.length;
  $("empty").hidden = !isEmpty;
  $("messages").hidden = isEmpty;
  $("export").hidden = isEmpty;
  const examples = /tiny/i.test(state.model.name) ? EXAMPLES.tiny : EXAMPLES.other;
  $("examples").replaceChildren(...examples.map(([text, hint]) =>
    el("button", { type: "button", onclick: () => { send(text); focusInput(); } },
      el("span", {}, text), el("span", { class: "hint" }, hint))));
  if (/tiny/i.test(state.model.name) && state.model.image) $("examples").append(pictureExample());
}

// A digit of Alpaydin and Kaynak's (CC BY 4.0), which the towers of the tiny pair can read.
const DIGIT = "data:image/png;base64,/* seven.png */";

function pictureExample() {
  const ask = async () => {
    const medium = { kind: "image", id: newChat().id, name: "A handwritten digit" };
    await keepMedium(medium.id, DIGIT);
    send("What do you see?", [medium]);
    focusInput();
  };
  return el("button", { type: "button", class: "pictured", onclick: ask },
    el("img", { src: DIGIT, alt: "A handwritten digit" }), el("span", {}, "What do you see?"));
}

function showMessages() {
  const { messages } = state.chat;
  views = messages.map((message, i) => viewOf(message, i, i === messages.length - 1));
  $("messages").replaceChildren(...views.map((view) => view.node));
}

function viewOf(message, index, isLast) {
  if (message.role === "user") return userView(message, index);
  if (message.role === "tool") return toolView(message);
  return new AnswerView(message, isLast);
}

/** A message; screen readers jump from heading to heading. */
function articleOf(who, kind, ...children) {
  const heading = el("h2", { class: "sr" }, who);
  return el("article", { class: kind, "aria-label": who }, heading, ...children);
}

function userView(message, index) {
  const node = articleOf("You", "user");
  if (state.editing === index) {
    node.append(editForm(message.content, (text) => resend(index, text), () => edit(-1)));
    return { node };
  }
  const said = el("div", { class: "said-by-user" }, mediaRow(message.media),
    message.content ? el("div", { class: "text" }, message.content) : null);
  node.append(said, el("div", { class: "actions" },
    iconButton("copy", "Copy", () => copyText(message.content)),
    iconButton("edit", "Edit", () => edit(index))));
  return { node };
}

function edit(index) {
  const before = state.editing;
  state.editing = index;
  showMessages();
  const node = views[index < 0 ? before : index]?.node;
  node?.querySelector(index < 0 ? "[aria-label=Edit]" : "textarea")?.focus();
}

function editForm(text, done, cancel) {
  const area = el("textarea", { rows: "3", "aria-label": "Edit the message" });
  area.value = text;
  const form = el("form", {}, area, el("div", { class: "edit-row" },
    el("button", { type: "button", onclick: cancel }, "Cancel"),
    el("button", { class: "strong" }, "Send")));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (area.value.trim()) done(area.value);
  });
  area.addEventListener("keydown", (event) => {
    if (isSend(event)) {
      event.preventDefault();
      form.requestSubmit();
    } else if (event.key === "Escape") {
      event.stopPropagation();
      cancel();
    }
  });
  return form;
}

function toolView(message) {
  const node = articleOf("Result of a tool", "", el("div", { class: "call" },
    el("strong", {}, "Result"), el("pre", { tabindex: "0" }, message.content)));
  return { node };
}

class AnswerView {
  constructor(message, isLast) {
    this.message = message;
    this.isLast = isLast;
    this.prose = new Prose();
    this.prose.node.classList.add("said");
    this.thoughts = new Prose();
    this.summary = el("summary", {});
    this.thinking = el("details", { class: "thinking" }, this.summary, this.thoughts.node);
    this.calls = el("div");
    this.end = el("div");
    this.node = articleOf("The model", isLast ? "last" : "",
      this.thinking, this.prose.node, this.calls, this.end);
    this.update();
  }

  get run() {
    const run = state.runs.get(state.chat.id);
    return run?.message === this.message ? run : null;
  }

  update() {
    const { message, run } = this;
    this.thinking.hidden = !message.reasoning;
    if (message.reasoning) {
      this.summary.textContent = thinkingTitle(message, run);
      this.thoughts.show(message.reasoning, message.reasoningDrafted);
    }
    this.prose.show(message.content, message.drafted, message.isJson);
    this.calls.replaceChildren(...message.calls.filter(Boolean).map(callNode));
    if (run) this.showStatus(statusOf(run));
    else this.end.replaceChildren(...this.closing());
  }

  showStatus(sentence) {
    this.status ??= el("p", { class: "status" });
    if (!this.status.isConnected) this.end.replaceChildren(this.status);
    this.status.textContent = sentence;
  }

  /** What stands below a finished answer. */
  closing() {
    const { message, isLast } = this;
    const actions = el("div", { class: "actions" });
    if (message.content) {
      actions.append(iconButton("copy", "Copy", () => copyText(message.content)));
    }
    if (isLast && !message.trouble) actions.append(iconButton("again", "Regenerate", again));
    const stats = Object.keys(message.figures).length ? statsNode(message.figures) : null;
    return [troubleNode(message, isLast), noteNode(message),
      isLast && message.finish === "tool_calls" ? resultForm(message.calls) : null,
      el("div", { class: "closing" }, stats, actions)].filter(Boolean);
  }
}

function thinkingTitle(message, run) {
  if (run && !message.content) return "Thinking…";
  const seconds = (message.thoughtFor ?? 0) / 1000;
  return seconds < 0.5 ? "Thoughts" : `Thought for ${seconds.toFixed(1)} s`;
}

function statusOf(run) {
  if (!run.firstAt) {
    if (run.place > 0) return `Waiting: place ${whole.format(run.place)} in the queue`;
    return "Reading";
  }
  const seconds = (performance.now() - run.firstAt) / 1000;
  return seconds > 0.3 ? `Writing, ${whole.format(run.tokens / seconds)} tokens/s` : "Writing";
}

function troubleNode(message, isLast) {
  if (!message.trouble) return null;
  const retry = isLast ? el("button", { type: "button", onclick: again }, "Try again") : null;
  return el("div", { class: "trouble" }, el("span", {}, message.trouble), retry);
}

function noteNode(message) {
  const notes = {
    stopped: "Stopped.",
    length: "Cut off: the limit of tokens was reached.",
    interrupted: "The page was closed before the answer was complete.",
  };
  const note = notes[message.finish];
  return note ? el("p", { class: "note" }, note) : null;
}

function callNode(call) {
  return el("div", { class: "call" }, "Calls ", el("strong", {}, call.function.name),
    el("pre", { tabindex: "0", "aria-label": "Arguments" }, pretty(call.function.arguments)));
}

function pretty(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}

/** The reader plays the tool: its results go back to the model. */
function resultForm(calls) {
  const areas = calls.map((call) => {
    const area = el("textarea", { rows: "2", class: "mono" });
    return [area, el("label", { class: "field" },
      el("span", {}, `Result of ${call.function.name}`), area)];
  });
  const form = el("form", { class: "call" }, ...areas.map(([, label]) => label),
    el("button", { class: "small" }, "Give to the model"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const results = areas.map(([area], i) =>
      ({ role: "tool", tool_call_id: calls[i].id, content: area.value }));
    state.chat.messages.push(...results);
    answer(state.chat);
    focusInput();
  });
  return form;
}
