// ---- settings ----

const settingsForm = $("settings").querySelector("form");

function openSettings() {
  for (const [name, value] of Object.entries(state.settings)) {
    const field = settingsForm.elements[name];
    if (field) {
      field.value = value;
      mark(field, "");
    }
  }
  $("settings").showModal();
}

function saveSettings() {
  const fields = [...settingsForm.elements].filter((field) => field.name);
  for (const field of fields) mark(field, wrongWith(field));
  const wrong = fields.find((field) => field.getAttribute("aria-invalid") === "true");
  if (wrong) {
    wrong.focus();
    return;
  }
  for (const field of fields) state.settings[field.name] = field.value.trim();
  keep("pillion.settings", state.settings);
  $("settings").close();
}

/** What is wrong with a field's value, as a sentence. */
function wrongWith(field) {
  const value = field.value.trim();
  if (!value) return "";
  if (field.name === "schema") return wrongJson(value, false);
  if (field.name === "tools") return wrongJson(value, true);
  const { least, most, whole: isWhole } = field.dataset;
  if (least === undefined) return "";
  const number = Number(value);
  const isRight = Number.isFinite(number) && (isWhole === undefined || Number.isInteger(number));
  if (isRight && number >= Number(least) && number <= Number(most ?? Infinity)) return "";
  const kind = isWhole === undefined ? "A number" : "A whole number";
  return most ? `${kind} from ${least} to ${most}.` : `${kind} of at least ${least}.`;
}

function wrongJson(text, isList) {
  try {
    const value = JSON.parse(text);
    const kind = Array.isArray(value) ? "list" : value === null ? "null" : typeof value;
    const wanted = isList ? "list" : "object";
    return kind === wanted ? "" : `This is a ${kind}, but has to be a JSON ${wanted}.`;
  } catch (error) {
    return `This is not JSON: ${error.message}.`;
  }
}

function mark(field, sentence) {
  const id = `wrong-${field.name}`;
  document.getElementById(id)?.remove();
  field.toggleAttribute("aria-invalid", false);
  field.removeAttribute("aria-describedby");
  if (!sentence) return;
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-describedby", id);
  field.closest(".field").after(el("p", { class: "wrong", id }, sentence));
}

function resetSettings() {
  for (const [name, value] of Object.entries(DEFAULTS)) {
    if (settingsForm.elements[name]) settingsForm.elements[name].value = value;
  }
}

function showTints() {
  const isOn = state.settings.tints;
  $("messages").classList.toggle("tints", isOn);
  $("tint").classList.toggle("on", isOn);
  $("tint").setAttribute("aria-pressed", String(isOn));
}

// ---- the key ----

let keyAnswer = null; // of the dialog that is open

/** Asks for a key; true if one was given. Requests that wait at the same time share the dialog. */
function askKey(wasRefused) {
  const field = $("key").querySelector("input");
  $("key-why").textContent = wasRefused
    ? "The server doesn't know this key."
    : "This server wants a key. It is kept until this tab is closed.";
  if (!keyAnswer) {
    keyAnswer = new Promise((resolve) => {
      field.value = "";
      $("key").onclose = () => {
        keyAnswer = null;
        const key = field.value.trim();
        field.value = "";
        if ($("key").returnValue === "use" && key) setKey(key);
        resolve($("key").returnValue === "use" && key !== "");
      };
    });
    $("key").returnValue = "";
    $("key").showModal();
    field.focus();
  }
  return keyAnswer;
}
