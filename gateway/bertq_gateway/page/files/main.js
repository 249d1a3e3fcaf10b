// Starts the page, refreshes the state of the service, and asks for a key where one is needed.

import { send, storedKey, storeKey } from "./api.js";
import * as compare from "./compare.js";
import { byId, showMessage } from "./dom.js";
import { refreshHealth, refreshService, showFailure } from "./service.js";

const REFRESH_MS = 3000;

let isPaused = false;
let timer = 0;
let isRefreshing = false;

async function refresh() {
  clearTimeout(timer);
  if (isRefreshing) return;
  isRefreshing = true;
  try {
    await refreshHealth();
    const listed = await (await send("v1/models")).json();
    compare.showModels(listed.data);
    await refreshService();
    hideKeyForm();
    byId("updated").textContent = `Updated ${new Date().toLocaleTimeString()}`;
  } catch (error) {
    if (error.status === 401) showKeyForm();
    else if (error.status === undefined) throw error;
    if (error.status === 503) compare.showModels([]);
    showFailure(error.status === 401 ? "Enter an API key to see the state of the service."
      : error.status ? `The state cannot be read: ${error.message}` : "The gateway does not answer.");
  } finally {
    isRefreshing = false;
    if (!isPaused && !document.hidden) timer = setTimeout(refresh, REFRESH_MS);
  }
}

function showKeyForm() {
  if (storedKey()) {
    storeKey(null);
    showMessage(byId("key-error"), "The gateway does not accept this key.");
  }
  const section = byId("key");
  if (section.hidden) {
    section.hidden = false;
    byId("key-input").focus();
  }
  byId("forget-key").hidden = true;
}

function hideKeyForm() {
  byId("key").hidden = true;
  showMessage(byId("key-error"), null);
  byId("forget-key").hidden = !storedKey();
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = byId("key-input").value.trim();
  byId("key-input").value = "";
  if (!/^[\x21-\x7e]+$/.test(key)) {
    showMessage(byId("key-error"), "A key has only ASCII letters, digits and punctuation.");
    return;
  }
  showMessage(byId("key-error"), null);
  storeKey(key);
  refresh();
});

byId("forget-key").addEventListener("click", () => {
  storeKey(null);
  location.reload();
});

byId("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  byId("pause").textContent = isPaused ? "Continue" : "Pause";
  refresh();
});

document.addEventListener("key-refused", showKeyForm);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !isPaused) refresh();
});

compare.start();
refresh();
