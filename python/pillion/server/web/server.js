// ---- the server ----

/** Whatever keeps an answer from coming, as a sentence for people. */
class Trouble extends Error {
  constructor(sentence, status = 0) {
    super(sentence);
    this.status = status;
  }
}

function keyOf() {
  try {
    return sessionStorage.getItem("pillion.key") ?? "";
  } catch {
    return state.key ?? "";
  }
}

function setKey(key) {
  state.key = key;
  try {
    sessionStorage.setItem("pillion.key", key);
  } catch { /* then for this page only */ }
}

/** Asks the server; a missing or wrong key is asked for and the request repeated. */
async function request(path, options = {}) {
  for (let refused = false; ; refused = true) {
    const headers = { ...options.headers };
    if (keyOf()) headers.Authorization = `Bearer ${keyOf()}`;
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw new Trouble("The server can't be reached.");
    }
    if (response.status !== 401) return response;
    if (!(await askKey(refused || keyOf() !== ""))) throw await troubleOf(response);
  }
}

async function troubleOf(response) {
  const text = await response.text().catch(() => "");
  const said = sentenceIn(text);
  const wait = Number(response.headers.get("Retry-After"));
  const later = wait > 0 ? ` Try again in ${plural(wait, "second")}.` : "";
  return new Trouble((said || defaultSentence(response)) + later, response.status);
}

function sentenceIn(text) {
  try {
    return finished(JSON.parse(text).error.message);
  } catch {
    return "";
  }
}

const finished = (text) => {
  const trimmed = String(text).trim();
  const capital = trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
  return /[.!?]$/.test(capital) ? capital : `${capital}.`;
};

function defaultSentence(response) {
  const known = {
    401: "The server wants an API key.",
    403: "The server doesn't allow this.",
    404: "The server has no chat at this address.",
    413: "The conversation is larger than the server takes.",
    429: "The server has too many requests from here.",
    503: "The server is busy or about to stop.",
  };
  return known[response.status] ?? `The server answered with status ${response.status}.`;
}

/** Server-sent events of a response: {data} or {comment}. */
async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let data = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      const lines = (rest + (value ?? "")).split("\n");
      rest = lines.pop();
      for (const line of lines.map((one) => one.replace(/\r$/, ""))) {
        if (line.startsWith(":")) yield { comment: line.slice(1).trim() };
        else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
        else if (!line && data.length) {
          yield { data: data.join("\n") };
          data = [];
        }
      }
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {}); // who stops listening leaves, so that the server stops too
  }
}

async function loadModel() {
  try {
    const response = await request("v1/models");
    if (!response.ok) throw await troubleOf(response);
    const model = (await response.json()).data?.[0] ?? {};
    const { vision = false, audio = false } = model.meta?.modalities ?? {};
    const size = Number(model.meta?.n_ctx) || 0;
    state.model = { name: String(model.id ?? ""), size, image: vision, audio };
  } catch (error) {
    if (error.status !== 401) watchServer(error.message);
  }
  showHead();
  showEmpty();
  showSenses();
}

let isWatching = false;

/** Says what is wrong with the server, and asks again until it is well. */
async function watchServer(sentence) {
  if (isWatching) return;
  isWatching = true;
  showBanner(sentence);
  for (let wait = 1000; ; wait = Math.min(2 * wait, 15000)) {
    await new Promise((resolve) => setTimeout(resolve, wait));
    const health = await healthOf();
    if (!health) break;
    showBanner(health);
  }
  isWatching = false;
  showBanner("");
  loadModel();
}

/** What ails the server; "" if nothing does. */
async function healthOf() {
  try {
    const response = await fetch("health", { cache: "no-store" });
    if (response.ok) return "";
    const text = await response.text();
    if (/draining|shut/i.test(text)) {
      return "The server is about to stop: answers under way end, new ones wait for its return.";
    }
    if (/loading/i.test(text)) return "The server is loading the model.";
    return sentenceIn(text) || defaultSentence(response);
  } catch {
    return "The server can't be reached; the page tries again by itself.";
  }
}

function showBanner(sentence) {
  if ($("banner").textContent !== sentence) $("banner").textContent = sentence;
  $("banner").hidden = !sentence;
}
