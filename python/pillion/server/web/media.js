// ---- pictures and sounds: what goes with the next message, and what messages had ----

const MEDIA_MAX = 16; // the server's limit
const PIXELS_MOST = 2580480; // what the most tokens show: 1120 squares of 48 pixels
const BYTES_MOST = 1500000; // larger pictures are written anew
const PLAIN_IMAGES = ["image/png", "image/jpeg", "image/webp", "image/gif"];
const PLAIN_SOUNDS = /^audio\/(x-)?(wav|wave|mpeg|mp3|flac|ogg)$/;
const RATE = 16000;

let attached = []; // {kind, id, name}, with the next message
const urls = new Map(); // data URLs by id

// Data URLs are too large for localStorage, so they lie in a database of their own.

let opening = null;

function database() {
  opening ??= new Promise((resolve, reject) => {
    const asked = indexedDB.open("pillion", 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore("media");
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
  return opening;
}

/** Runs one request on the stored media. */
async function stored(mode, ask) {
  const store = (await database()).transaction("media", mode).objectStore("media");
  return new Promise((resolve, reject) => {
    const asked = ask(store);
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
}

async function keepMedium(id, url) {
  urls.set(id, url);
  try {
    await stored("readwrite", (store) => store.put(url, id));
  } catch { /* private windows may refuse: then it lasts as long as the page */ }
}

/** The data URL of a message's medium; "" if this browser has it no more. */
async function urlOf(id) {
  if (!urls.has(id)) {
    try {
      urls.set(id, (await stored("readonly", (store) => store.get(id))) ?? "");
    } catch {
      return "";
    }
  }
  return urls.get(id);
}

/** Forgets what no conversation shows any more. */
async function forgetMedia() {
  const used = new Set(state.chats.flatMap((chat) => chat.messages)
    .flatMap((message) => message.media ?? []).map((one) => one.id));
  try {
    for (const id of await stored("readonly", (store) => store.getAllKeys())) {
      if (!used.has(id)) await stored("readwrite", (store) => store.delete(id));
    }
  } catch { /* nothing is stored */ }
}

/** A medium as a part of a message. */
async function partOf({ kind, id, name }) {
  const url = await urlOf(id);
  if (!url) {
    throw new Trouble(`This browser no longer has “${name}”: start a new conversation.`);
  }
  if (kind === "audio") {
    const format = /^data:audio\/(x-)?wav/.test(url) ? "wav" : "mp3";
    return { type: "input_audio", input_audio: { data: url.slice(url.indexOf(",") + 1), format } };
  }
  const tokens = state.settings.image_tokens;
  const budget = tokens ? { image_tokens: tokens === "auto" ? tokens : Number(tokens) } : {};
  return { type: "image_url", image_url: { url }, ...budget };
}

// ---- taking files ----

async function attachFiles(files) {
  for (const file of files) {
    const kind = file.type.startsWith("image/") ? "image" : "audio";
    if (!/^(image|audio|video)\//.test(file.type)) toast(`${file.name} is no picture or sound.`);
    else await attach(kind, file, file.name);
  }
  focusInput();
}

async function attach(kind, blob, name) {
  if (!state.model[kind]) {
    const what = kind === "image" ? "see pictures" : "hear sounds";
    toast(`This model doesn't ${what}.`);
    return;
  }
  if (attached.length >= MEDIA_MAX) {
    toast(`A message takes ${MEDIA_MAX} pictures and sounds.`);
    return;
  }
  try {
    const ready = kind === "image" ? await pictureOf(blob) : await soundOf(blob);
    const medium = { kind, id: newChat().id, name };
    await keepMedium(medium.id, await dataUrl(ready));
    attached.push(medium);
  } catch {
    toast(`${name} can't be read.`);
  }
  showAttached();
}

function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

/** The file as it is, or upright, on white, and no larger than the model can see. */
async function pictureOf(blob) {
  const bitmap = await createImageBitmap(blob);
  const { width, height } = bitmap;
  const isSmall = width * height <= PIXELS_MOST && blob.size <= BYTES_MOST;
  if (isSmall && PLAIN_IMAGES.includes(blob.type)) return blob;
  const scale = Math.min(1, Math.sqrt(PIXELS_MOST / (width * height)));
  const canvas = el("canvas", {});
  canvas.width = Math.max(1, Math.floor(scale * width));
  canvas.height = Math.max(1, Math.floor(scale * height));
  const paper = canvas.getContext("2d");
  paper.fillStyle = "white";
  paper.fillRect(0, 0, canvas.width, canvas.height);
  paper.imageSmoothingQuality = "high";
  paper.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
}

/** The file as it is, or as WAV, where only the browser can decode it. */
async function soundOf(blob) {
  if (PLAIN_SOUNDS.test(blob.type)) return blob;
  const context = new OfflineAudioContext(1, 1, RATE); // decodes to its own rate
  return wavOf(monoOf(await context.decodeAudioData(await blob.arrayBuffer())));
}

function monoOf(buffer) {
  const mono = new Float32Array(buffer.length);
  for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
    buffer.getChannelData(channel).forEach((value, i) => {
      mono[i] += value / buffer.numberOfChannels;
    });
  }
  return mono;
}

function wavOf(samples) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const word = (at, text) =>
    [...text].forEach((one, i) => view.setUint8(at + i, one.charCodeAt(0)));
  word(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  word(8, "WAVEfmt ");
  const head = [[16, 16], [20, 1, 2], [22, 1, 2], [24, RATE], [28, 2 * RATE], [32, 2, 2],
    [34, 16, 2]];
  for (const [at, value, bytes] of head) {
    if (bytes === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
  }
  word(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((value, i) => {
    view.setInt16(44 + 2 * i, Math.round(32767 * Math.max(-1, Math.min(1, value))), true);
  });
  return new Blob([view], { type: "audio/wav" });
}

// ---- recording ----

let recorder = null;

async function toggleRecording() {
  if (recorder) {
    recorder.stop();
    return;
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch {
    toast("The browser gives this page no microphone.");
    return;
  }
  const parts = [];
  recorder = new MediaRecorder(stream);
  recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
  recorder.addEventListener("stop", async () => {
    stream.getTracks().forEach((track) => track.stop());
    const { mimeType } = recorder;
    recorder = null;
    showRecording();
    await attach("audio", new Blob(parts, { type: mimeType }), "Recording");
    focusInput();
  });
  recorder.start();
  showRecording();
}

function showRecording() {
  const label = recorder ? "Stop recording" : "Record a sound";
  $("record").setAttribute("aria-label", label);
  $("record").title = label;
  $("record").setAttribute("aria-pressed", String(recorder !== null));
  $("record").querySelector("use").setAttribute("href", recorder ? "#i-stop" : "#i-mic");
}

// ---- showing ----

/** A picture or a sound; its bytes come when the browser has found them. */
function mediumNode({ kind, id, name }) {
  const node = kind === "image" ? el("img", { alt: name })
    : el("audio", { controls: true, "aria-label": name });
  urlOf(id).then((url) => {
    if (url) node.src = url;
    else node.replaceWith(el("span", { class: "muted" }, `${name} (gone)`));
  });
  return node;
}

function mediaRow(media) {
  return media?.length ? el("div", { class: "media" }, ...media.map(mediumNode)) : null;
}

function showAttached() {
  $("attached").hidden = !attached.length;
  $("attached").replaceChildren(...attached.map((medium) => el("div", { class: "medium" },
    mediumNode(medium),
    iconButton("close", `Remove ${medium.name}`, () => {
      attached = attached.filter((other) => other !== medium);
      showAttached();
      focusInput();
    }))));
}

function showSenses() {
  const { image, audio } = state.model;
  $("attach").hidden = !image && !audio;
  $("record").hidden = !audio || !window.MediaRecorder || !navigator.mediaDevices;
  $("files").accept = [image ? "image/*" : "", audio ? "audio/*" : ""].filter(Boolean).join(",");
}

function listenForMedia() {
  $("attach").addEventListener("click", () => $("files").click());
  $("files").addEventListener("change", async () => {
    await attachFiles([...$("files").files]);
    $("files").value = "";
  });
  $("record").addEventListener("click", toggleRecording);
  $("input").addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (!files.length) return;
    event.preventDefault();
    attachFiles(files);
  });
  document.addEventListener("dragover", (event) => {
    if ([...event.dataTransfer.types].includes("Files")) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    attachFiles([...event.dataTransfer.files]);
  });
}
