// ---- composer, keys, scrolling ----

const isSend = (event) => event.key === "Enter" && !event.shiftKey && !event.isComposing;

function showComposer() {
  const isBusy = state.runs.has(state.chat.id);
  const label = isBusy ? "Stop" : "Send";
  $("send").setAttribute("aria-label", label);
  $("send").title = label;
  $("send").querySelector("use").setAttribute("href", isBusy ? "#i-stop" : "#i-send");
}

function submit() {
  const { chat } = state;
  const text = $("input").value;
  if (state.runs.has(chat.id)) stopAnswer();
  else if (text.trim() || attached.length) {
    const media = attached;
    attached = [];
    $("input").value = "";
    fitInput();
    showAttached();
    send(text, media);
  }
}

/** Not on a phone, where its keyboard would cover the answer. */
function focusInput() {
  if (matchMedia("(hover: hover)").matches) $("input").focus();
}

function fitInput() {
  const area = $("input");
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight}px`;
}

function isAtEnd() {
  const { scrollHeight, scrollTop, clientHeight } = $("scroll");
  return scrollHeight - scrollTop - clientHeight < 80;
}

let follows = true;

function scrollDown(isForced) {
  if (isForced) follows = true;
  const isEmpty = !state.chat.messages.length;
  if (follows) $("scroll").scrollTop = isEmpty ? 0 : $("scroll").scrollHeight;
  $("jump").hidden = follows || isAtEnd();
}

function closeDrawer() {
  $("sidebar").classList.remove("open");
  $("menu").setAttribute("aria-expanded", "false");
}

function openDrawer() {
  $("sidebar").classList.add("open");
  $("menu").setAttribute("aria-expanded", "true");
  $("new-chat").focus();
}

function onEscape(event) {
  if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
  if ($("sidebar").classList.contains("open")) {
    closeDrawer();
    $("menu").focus();
  } else stopAnswer();
}

function listen() {
  const on = (id, event, action) => $(id).addEventListener(event, action);
  on("composer", "submit", (event) => { event.preventDefault(); submit(); });
  on("input", "keydown", (event) => {
    if (!isSend(event)) return;
    event.preventDefault();
    if (!state.runs.has(state.chat.id)) submit();
  });
  on("input", "input", fitInput);
  on("scroll", "scroll", () => { follows = isAtEnd(); $("jump").hidden = follows; });
  on("jump", "click", () => scrollDown(true));
  on("new-chat", "click", () => { openChat(newChat()); focusInput(); });
  on("menu", "click", openDrawer);
  on("shade", "click", closeDrawer);
  on("tint", "click", () => {
    state.settings.tints = !state.settings.tints;
    keep("pillion.settings", state.settings);
    showTints();
  });
  on("open-settings", "click", openSettings);
  on("reset", "click", resetSettings);
  on("change-key", "click", async () => { if (await askKey(false)) loadModel(); });
  on("export", "click", () => $("exports").showModal());
  on("export-markdown", "click", () =>
    save(`${fileName(state.chat)}.md`, "text/markdown", asMarkdown(state.chat)));
  on("export-json", "click", async () =>
    save(`${fileName(state.chat)}.json`, "application/json", await asJson(state.chat)));
  settingsForm.addEventListener("submit", (event) => { event.preventDefault(); saveSettings(); });
  $("exports").querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  $("key").querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    $("key").close("use");
  });
  for (const button of document.querySelectorAll("dialog .close")) {
    button.addEventListener("click", () => button.closest("dialog").close());
  }
  document.addEventListener("keydown", onEscape);
  addEventListener("storage", onOtherTab);
  listenForMedia();
}

/** Another tab wrote: its conversations are taken over, those that are being answered here stay. */
function onOtherTab(event) {
  if (event.key && !event.key.startsWith(CHAT)) return;
  const fresh = new Map(keptChats().map((chat) => [chat.id, chat]));
  for (const id of state.runs.keys()) {
    const mine = state.chats.find((chat) => chat.id === id);
    if (mine) fresh.set(id, mine);
  }
  state.chats = [...fresh.values()].sort((a, b) => b.changed - a.changed);
  const here = fresh.get(state.chat.id);
  if (here && here !== state.chat && state.editing < 0) openChat(here);
  else showChats();
}

// ---- start ----

for (const chat of state.chats) {
  for (const message of chat.messages) {
    if (message.role === "assistant") message.finish ??= "interrupted";
  }
}
state.chat = state.chats[0] ?? newChat();
listen();
showTints();
showAll();
scrollDown(true);
focusInput();
loadModel();
forgetMedia();
