// ---- asking for an answer ----

async function historyOf(chat) {
  const { system } = state.settings;
  const messages = system.trim() ? [{ role: "system", content: system }] : [];
  for (const message of chat.messages) {
    if (message.role === "user") {
      const parts = await Promise.all((message.media ?? []).map(partOf));
      const text = message.content ? [{ type: "text", text: message.content }] : [];
      const content = parts.length ? [...parts, ...text] : message.content;
      messages.push({ role: "user", content });
    } else if (message.role === "tool") {
      const { role, tool_call_id, content } = message;
      messages.push({ role, tool_call_id, content });
    } else if (message.content || message.calls.length) {
      const calls = message.calls.length ? { tool_calls: message.calls } : {};
      messages.push({ role: "assistant", content: message.content, ...calls });
    }
  }
  return messages;
}

async function bodyOf(chat) {
  const body = {
    messages: await historyOf(chat),
    stream: true,
    stream_options: { include_usage: true },
    pillion: { pieces: true, place: true },
  };
  if (state.model.name) body.model = state.model.name;
  const { settings } = state;
  for (const name of ["temperature", "top_p", "max_tokens", "seed"]) {
    if (settings[name] !== "") body[name] = Number(settings[name]);
  }
  const { draft, thinking } = settings;
  if (draft !== "") body.draft = draft === "auto" ? "auto" : Number(draft);
  if (thinking) body.chat_template_kwargs = { enable_thinking: thinking === "on" };
  if (settings.schema) {
    const json_schema = { name: "answer", strict: true, schema: JSON.parse(settings.schema) };
    body.response_format = { type: "json_schema", json_schema };
  }
  if (settings.tools) body.tools = JSON.parse(settings.tools);
  return body;
}

function emptyAnswer() {
  return {
    role: "assistant", content: "", drafted: [], reasoning: "", reasoningDrafted: [], calls: [],
    finish: null, trouble: "", figures: {}, isJson: false,
  };
}

/** Lets the model answer the end of a conversation. */
async function answer(chat) {
  const message = { ...emptyAnswer(), isJson: state.settings.schema !== "" };
  const run = {
    chat, message, abort: new AbortController(), place: null, began: performance.now(), firstAt: 0,
    tokens: 0, spoken: 0, complete: false, savedAt: 0,
  };
  chat.messages.push(message);
  state.runs.set(chat.id, run);
  saveChat(chat);
  showAll();
  scrollDown(true);
  try {
    await receive(run);
  } catch (error) {
    failed(run, error);
  }
  if (state.runs.get(chat.id) === run) state.runs.delete(chat.id);
  message.finish ??= "stopped";
  saveIfKept(chat);
  announce(run, true);
  if (chat === state.chat) {
    showAll();
    scrollDown(false); // what stands below a finished answer has come
  } else showChats();
}

async function receive(run) {
  const { signal } = run.abort;
  const response = await request("v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(await bodyOf(run.chat)),
    signal,
  });
  if (!response.ok) throw await troubleOf(response);
  for await (const event of eventsOf(response)) {
    if (event.data === "[DONE]") run.complete = true;
    else if (event.data) take(run, parsed(event.data));
    else takeComment(run, event.comment);
    showSoon(run);
  }
  if (!run.complete) throw new Trouble("The connection ended before the answer did.");
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Trouble("The server sent something that can't be read.");
  }
}

function failed(run, error) {
  if (run.abort.signal.aborted) {
    run.message.finish = "stopped";
    return;
  }
  const isKnown = error instanceof Trouble;
  const sentence = isKnown ? error.message : "The connection to the server broke off.";
  run.message.finish = "failed";
  run.message.trouble = sentence;
  say(sentence);
  if (!isKnown || error.status === 0 || error.status === 503) checkServer();
}

async function checkServer() {
  const health = await healthOf();
  if (health) watchServer(health);
}

function takeComment(run, comment) {
  const place = /"?place"?\D+(\d+)/.exec(comment ?? "");
  if (place) run.place = Number(place[1]);
}

function take(run, chunk) {
  const { message } = run;
  if (chunk.error) throw new Trouble(finished(chunk.error.message ?? "the server failed"), 500);
  if (chunk.pillion?.place !== undefined) run.place = chunk.pillion.place;
  const choice = chunk.choices?.[0];
  if (choice?.delta) takeDelta(run, choice.delta, chunk.pillion?.pieces ?? []);
  if (choice?.finish_reason) message.finish = choice.finish_reason;
  for (const name of ["usage", "timings", "speculation"]) {
    if (chunk[name]) message.figures[name] = chunk[name];
  }
}

function takeDelta(run, delta, pieces) {
  const { message } = run;
  const begins = delta.content || delta.reasoning_content || delta.tool_calls;
  if (begins && !run.firstAt) run.firstAt = performance.now();
  if (begins) run.tokens += Math.max(1, pieces.length);
  if (delta.reasoning_content) {
    grow(message, "reasoning", "reasoningDrafted", delta.reasoning_content, pieces);
  }
  if (delta.content) {
    if (message.reasoning) message.thoughtFor ??= performance.now() - run.firstAt;
    grow(message, "content", "drafted", delta.content, pieces);
  }
  for (const call of delta.tool_calls ?? []) takeCall(message, call);
  for (const broken of delta.malformed_tool_calls ?? []) {
    message.trouble = `The model wrote a tool call that can't be read: ${finished(broken.reason)}`;
  }
}

/** Adds text, and the ranges of those pieces of it that were drafted. */
function grow(message, text, ranges, added, pieces) {
  const base = message[text].length;
  const all = pieces.map((piece) => piece[0]).join("");
  const shift = all.indexOf(added);
  message[text] += added;
  if (shift < 0) return;
  let at = -shift;
  for (const [piece, isDrafted] of pieces) {
    const begin = Math.max(at, 0);
    const end = Math.min(at + piece.length, added.length);
    if (isDrafted && end > begin) message[ranges].push(base + begin, base + end);
    at += piece.length;
  }
}

function takeCall(message, delta) {
  const index = delta.index ?? message.calls.length;
  const call = (message.calls[index] ??= {
    id: delta.id ?? `call-${index}`, type: "function", function: { name: "", arguments: "" },
  });
  call.function.name += delta.function?.name ?? "";
  call.function.arguments += delta.function?.arguments ?? "";
}

function stopAnswer() {
  state.runs.get(state.chat.id)?.abort.abort();
}

function send(text, media = []) {
  const { chat } = state;
  if (state.runs.has(chat.id)) return;
  chat.title ||= titleFrom(text || media[0].name);
  chat.messages.push({ role: "user", content: text, ...(media.length ? { media } : {}) });
  $("log").replaceChildren();
  answer(chat);
}

function again() {
  const { chat } = state;
  while (chat.messages.at(-1)?.role === "assistant") chat.messages.pop();
  answer(chat);
  focusInput();
}

function resend(index, text) {
  const { chat } = state;
  state.runs.get(chat.id)?.abort.abort();
  state.runs.delete(chat.id);
  const { media } = chat.messages[index];
  chat.messages.length = index;
  state.editing = -1;
  send(text, media);
  focusInput();
}

/** Drops a conversation that was deleted while its answer came. */
function saveIfKept(chat) {
  if (state.chats.includes(chat)) saveChat(chat);
}

// ---- the answer, spoken by the sentence ----

function announce(run, isEnd = false) {
  if (run.chat !== state.chat) return;
  const { content } = run.message;
  const fresh = content.slice(run.spoken);
  const ends = [...fresh.matchAll(/[.!?:;…]["'”’)\]]*\s|\n/g)];
  const end = isEnd ? fresh.length : ends.length ? ends.at(-1).index + ends.at(-1)[0].length : 0;
  run.spoken += end;
  if (fresh.slice(0, end).trim()) say(fresh.slice(0, end).replace(/[*_`#|]+/g, " ").trim());
}

function say(sentence) {
  $("log").append(el("p", {}, sentence));
  while ($("log").children.length > 12) $("log").firstChild.remove();
}
