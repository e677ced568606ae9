// ---- what is kept: one entry a conversation, so that two tabs don't write over each other ----

const CHAT = "pillion.chat.";
const DEFAULTS = {
  system: "", temperature: "", top_p: "", max_tokens: "", seed: "", draft: "", thinking: "",
  schema: "", tools: "", image_tokens: "", tints: true,
};

function kept(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? otherwise;
  } catch {
    return otherwise; // private windows may refuse, and somebody may have written there
  }
}

function keep(name, value) {
  try {
    localStorage.setItem(name, JSON.stringify(value));
  } catch {
    toast("The browser keeps no more conversations: export or delete some.");
  }
}

function forget(name) {
  try {
    localStorage.removeItem(name);
  } catch { /* then nothing is kept there */ }
}

function keptChats() {
  let names = [];
  try {
    names = Object.keys(localStorage).filter((name) => name.startsWith(CHAT));
  } catch { /* none then */ }
  const chats = names.map((name) => kept(name, null));
  const sound = chats.filter((chat) => Array.isArray(chat?.messages)).map(completed);
  return sound.sort((a, b) => b.changed - a.changed);
}

/** A conversation as this page needs it, whoever wrote it. */
function completed(chat) {
  const messages = chat.messages.filter((message) => typeof message?.content === "string");
  const whole = messages.map((message) =>
    message.role === "assistant" ? { ...emptyAnswer(), ...message } : message);
  return { ...newChat(), ...chat, messages: whole };
}

const state = {
  chats: keptChats(),
  chat: null, // the one that is shown
  settings: { ...DEFAULTS, ...kept("pillion.settings", {}) },
  runs: new Map(), // answers in the making, by id of their conversation
  model: { name: "", size: 0, image: false, audio: false },
  editing: -1, // index of the message that is edited
};

function newChat() {
  const id = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
  return { id, title: "", messages: [], changed: Date.now() };
}

function saveChat(chat) {
  chat.changed = Date.now();
  if (!state.chats.includes(chat)) state.chats.unshift(chat);
  state.chats.sort((a, b) => b.changed - a.changed);
  keep(CHAT + chat.id, chat);
}

/** Of the first line of a message. */
function titleFrom(text) {
  const line = [...text.trim().split("\n")[0]];
  return line.length > 60 ? `${line.slice(0, 59).join("")}…` : line.join("");
}

const titleOf = (chat) => chat.title || "New conversation";
