// ---- conversations ----

function openChat(chat) {
  state.chat = chat;
  state.editing = -1;
  $("log").replaceChildren();
  showAll();
  scrollDown(true);
  closeDrawer();
}

function showChats() {
  const hadFocus = $("chats").contains(document.activeElement);
  $("chats").replaceChildren(...state.chats.map(chatItem));
  if (hadFocus) $("chats").querySelector(".here .open")?.focus();
}

function chatItem(chat) {
  const isHere = chat === state.chat;
  const title = titleOf(chat);
  const clicked = { type: "button", onclick: () => openChat(chat) };
  const button = el("button", { class: "open", title, ...clicked }, el("span", {}, title));
  if (isHere) button.setAttribute("aria-current", "page");
  const item = el("li", { class: isHere ? "here" : "" }, button,
    iconButton("edit", `Rename ${title}`, () => rename(chat, item), "quiet small round tool"),
    iconButton("delete", `Delete ${title}`, () => remove(chat), "quiet small round tool"));
  return item;
}

function rename(chat, item) {
  const field = el("input", { "aria-label": "Title of the conversation" });
  field.value = titleOf(chat);
  let isOver = false;
  const end = (isKept) => {
    if (isOver) return;
    isOver = true;
    if (isKept && field.value.trim()) {
      chat.title = field.value.trim();
      saveChat(chat);
    }
    showChats();
    showHead();
  };
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === "Escape") {
      event.stopPropagation();
      end(event.key === "Enter");
    }
  });
  field.addEventListener("blur", () => end(true));
  item.replaceChildren(field);
  field.focus();
  field.select();
}

function remove(chat) {
  state.runs.get(chat.id)?.abort.abort();
  state.chats = state.chats.filter((other) => other !== chat);
  forget(CHAT + chat.id);
  if (chat === state.chat) openChat(state.chats[0] ?? newChat());
  else showChats();
  toast(`“${titleOf(chat)}” is deleted.`, "Undo", () => {
    saveChat(chat);
    openChat(chat);
  });
  $("new-chat").focus();
}

let toastTimer = 0;

function toast(sentence, label = "", action = null) {
  const hide = () => ($("toast").hidden = true);
  const button = action && el("button", { type: "button", class: "small" }, label);
  button?.addEventListener("click", () => { hide(); action(); });
  $("toast").replaceChildren(...[el("span", {}, sentence), button].filter(Boolean));
  $("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(hide, action ? 20000 : 4000);
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied.");
  } catch {
    toast("The browser doesn't let this page copy.");
  }
}

// ---- export ----

function save(name, kind, text) {
  const url = URL.createObjectURL(new Blob([text], { type: kind }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

function fileName(chat) {
  return titleOf(chat).replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "") || "chat";
}

function asMarkdown(chat) {
  const parts = [`# ${titleOf(chat)}`];
  if (state.settings.system.trim()) parts.push("## Instructions", state.settings.system);
  const names = { user: "You", tool: "Result of a tool", assistant: state.model.name || "Model" };
  for (const message of chat.messages) {
    const shown = (message.media ?? []).map((one) => `*${one.name}*`).join(" ");
    parts.push(`## ${names[message.role]}`, shown, message.content);
    for (const { function: call } of message.calls ?? []) {
      parts.push(`Calls \`${call.name}\`:`, "```json\n" + pretty(call.arguments) + "\n```");
    }
  }
  return parts.filter(Boolean).join("\n\n") + "\n";
}

/** With the data of its pictures and sounds. */
async function asJson(chat) {
  const about = { format: "pillion chat 1", model: state.model.name, settings: state.settings };
  const withData = async (one) => ({ ...one, url: await urlOf(one.id) });
  const messages = await Promise.all(chat.messages.map(async (message) => (message.media
    ? { ...message, media: await Promise.all(message.media.map(withData)) } : message)));
  return JSON.stringify({ ...about, ...chat, messages }, null, 2);
}
