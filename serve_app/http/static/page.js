// The search page. The address says what is searched (?q=, ?like=, &kind=), so results can be linked and Back works;
// a picture of the user's own lives in this page alone. Everything of the server's is set as text, never as markup.

import { clock, open as openPlayer } from "./player.js";

const at = (id) => document.getElementById(id);
const LIMIT = 24;
const JOBS_EVERY_MS = 3000;
const NO_JOBS_EVERY_MS = 10_000;
const pictures = []; // every file that was searched by; the window's history holds their places
let picture = null; // the file that is searched by
let model = ""; // what the service runs
let running = null; // the AbortController of the search under way

function kind() {
  return document.querySelector("input[name=kind]:checked").value;
}

function show(element, visible) {
  element.hidden = !visible;
}

function ask(label, source) {
  const shown = at("asked-picture");
  if (shown.src.startsWith("blob:")) URL.revokeObjectURL(shown.src);
  if (source) shown.src = source;
  else shown.removeAttribute("src");
  at("asked-label").textContent = label;
  show(shown, Boolean(source));
  show(at("asked"), Boolean(label));
}

function setPicture(file) {
  picture = file;
  if (file) ask(file.name || "a picture", URL.createObjectURL(file));
  else ask("");
}

async function setLike(id) {
  picture = null;
  ask(`like ${id}`);
  const response = await fetch(`v1/documents/${encodeURIComponent(id)}`).catch(() => null);
  if (!response?.ok || new URLSearchParams(location.search).get("like") !== id) return; // the search itself says what is wrong
  const document = await response.json();
  ask(`like ${document.text ? `“${document.text}”` : "this picture"}`, document.thumbnail_url);
}

// --- asking ---------------------------------------------------------------------------------------------------------

function requestOf(query, options) {
  if (query.file) {
    const form = new FormData();
    form.append("image", query.file);
    form.append("request", JSON.stringify(options));
    return { method: "POST", body: form };
  }
  const asked = query.like ? { document_id: query.like } : { text: query.words };
  return {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ query: asked, ...options }),
  };
}

async function answerOf(response) {
  const body = await response.json().catch(() => null);
  if (response.ok && body) return body;
  throw new Error(body?.error?.message ?? `The service answered with status ${response.status}.`);
}

async function search(query) {
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  const wanted = kind();
  const options = { limit: LIMIT, ranking: "calibrated", ...(wanted && { modalities: [wanted] }) };
  show(at("welcome"), false);
  show(at("error"), false);
  at("results").classList.add("waiting");
  at("results").setAttribute("aria-busy", "true");
  at("status").textContent = "Searching…";
  try {
    const answer = await answerOf(await fetch("v1/search", { ...requestOf(query, options), signal }));
    if (!signal.aborted) render(answer);
  } catch (error) {
    if (signal.aborted) return;
    fail(error instanceof TypeError ? "The service cannot be reached." : error.message);
  } finally {
    if (!signal.aborted) {
      at("results").classList.remove("waiting");
      at("results").removeAttribute("aria-busy");
    }
  }
}

function fail(message) {
  at("results").replaceChildren();
  at("status").textContent = "";
  at("error").textContent = message;
  show(at("error"), true);
}

// --- showing --------------------------------------------------------------------------------------------------------

const NAMES = { image: "picture", text: "text", image_text: "picture with text", video_frame: "video" };

function sized(address, pixels) {
  const url = new URL(address, location.href);
  url.searchParams.set("size", pixels);
  return url.href;
}

function card(result) {
  const item = at("card").content.cloneNode(true).firstElementChild;
  item.classList.add(result.modality);
  item.dataset.id = result.id;
  const link = item.querySelector(".picture");
  const words = item.querySelector("blockquote");
  if (result.thumbnail_url) {
    link.href = result.content_url;
    link.firstElementChild.src = sized(result.thumbnail_url, 384);
    link.firstElementChild.alt = result.text ?? `Picture ${result.id}`;
    if (result.offset_s === null) link.lastElementChild.remove();
    else moving(link, result);
  } else {
    link.remove();
  }
  if (result.text) words.textContent = result.text;
  else words.remove();
  item.querySelector(".kind").textContent = NAMES[result.modality] ?? result.modality;
  item.querySelector(".score").textContent = result.score.toFixed(3);
  const meter = item.querySelector("meter");
  const share = item.querySelector(".confidence");
  if (result.confidence === null) {
    meter.remove();
    share.remove();
  } else {
    meter.value = result.confidence;
    meter.setAttribute("aria-label", "Confidence");
    share.textContent = percent(result.confidence);
  }
  const like = item.querySelector(".like");
  like.setAttribute("aria-label", `More like ${result.text ?? result.id}`);
  like.addEventListener("click", () => go({ like: result.id }));
  return item;
}

// A link to the moment for whoever wants a window of its own; a plain click plays it here.
function moving(link, result) {
  const time = clock(result.offset_s);
  link.lastElementChild.textContent = time;
  link.setAttribute("aria-label", `Play ${result.text ?? result.video_id} from ${time}`);
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    openPlayer(result, result);
  });
}

function percent(share) {
  // 100 % would be a promise: "more than 99.9 %" is what is known.
  return share > 0.999 ? ">99.9 %" : `${(share * 100).toFixed(share > 0.99 ? 1 : 0)} %`;
}

function render(answer) {
  at("results").replaceChildren(...answer.results.map(card));
  const count = answer.results.length;
  const cut = answer.truncated ? " The text was longer than the model reads; its end was left out." : "";
  at("status").textContent = count
    ? `${count} result${count === 1 ? "" : "s"} in ${Math.round(answer.took_ms.total)} ms.${cut}`
    : "Nothing found. The table may still be empty.";
}

// A few pictures of the collection, for whoever does not know what to ask.
async function showSamples() {
  const words = at("examples").querySelector("button").textContent;
  const response = await fetch("v1/search", requestOf({ words }, { limit: 12, modalities: ["image"] }));
  if (!response.ok) return; // the page is whole without them
  const { results } = await response.json();
  at("samples").lastElementChild.replaceChildren(
    ...results.filter((result) => result.thumbnail_url).map((result) => {
      const [item, button, image] = ["li", "button", "img"].map((name) => document.createElement(name));
      image.src = sized(result.thumbnail_url, 256);
      image.alt = `More like ${result.text ?? result.id}`;
      button.type = "button";
      button.addEventListener("click", () => go({ like: result.id }));
      button.append(image);
      item.append(button);
      return item;
    }),
  );
  show(at("samples"), results.length > 0);
}

async function showTable() {
  try {
    const ready = await fetch("readyz");
    if (!ready.ok) {
      fail(`Not ready: ${(await ready.json()).error.message}`);
      return;
    }
    const state = await ready.json();
    model = state.model.id;
    if (tellCounts(state.table?.counts) && !location.search) await showSamples();
  } catch {
    fail("The service cannot be reached.");
  }
}

// Returns how many pictures there are.
function tellCounts(counts) {
  const count = (name) => counts?.[name] ?? 0;
  const pictures = count("image") + count("image_text");
  const frames = count("video_frame") ? `, ${count("video_frame").toLocaleString("en")} moments of videos` : "";
  at("table").textContent = `${pictures.toLocaleString("en")} pictures${frames} and ${count("text").toLocaleString("en")} texts · model ${model}`;
  return pictures;
}

// Bulk work that runs now; while there is some, it is asked often, and the counts of the table with it.
async function showJobs() {
  if (document.hidden) {
    document.addEventListener("visibilitychange", showJobs, { once: true });
    return;
  }
  const answer = await fetch("v1/jobs").catch(() => null);
  const jobs = answer?.ok ? (await answer.json()).jobs.filter((job) => job.status === "running") : [];
  const ran = !at("jobs").hidden;
  at("jobs").replaceChildren(
    ...jobs.map((job) => {
      const item = document.createElement("li");
      const figures = [`${job.stored.toLocaleString("en")} stored`];
      if (job.failed) figures.push(`${job.failed.toLocaleString("en")} failed`);
      if (job.items_per_s) figures.push(`${Math.round(job.items_per_s).toLocaleString("en")} items/s`);
      if (job.bottleneck) figures.push(`held up by ${job.bottleneck}`);
      item.textContent = `${job.kind} ${job.id} is running: ${figures.join(", ")}`;
      return item;
    }),
  );
  show(at("jobs"), jobs.length > 0);
  if (jobs.length || ran) {
    const table = await fetch("v1/table").catch(() => null);
    if (table?.ok) tellCounts((await table.json()).counts);
  }
  setTimeout(showJobs, jobs.length ? JOBS_EVERY_MS : NO_JOBS_EVERY_MS);
}

// --- the address is the state ---------------------------------------------------------------------------------------

function go({ words = "", like = "", file = null }) {
  const state = new URLSearchParams();
  if (words) state.set("q", words);
  if (like) state.set("like", like);
  if (kind()) state.set("kind", kind());
  const query = state.toString();
  if (file && !pictures.includes(file)) pictures.push(file);
  history.pushState({ picture: pictures.indexOf(file) }, "", query ? `?${query}` : location.pathname);
  scrollTo({ top: 0 });
  follow();
}

function follow() {
  const state = new URLSearchParams(location.search);
  const words = state.get("q") ?? "";
  const like = state.get("like") ?? "";
  const wanted = document.querySelector(`input[name=kind][value="${CSS.escape(state.get("kind") ?? "")}"]`);
  if (wanted) wanted.checked = true;
  at("words").value = words;
  const file = pictures[history.state?.picture] ?? null;
  if (like) setLike(like);
  else setPicture(file);
  if (words || like || file) search({ words, like, file });
  else {
    running?.abort();
    show(at("error"), false);
    at("results").classList.remove("waiting");
    at("results").replaceChildren();
    at("status").textContent = "";
    show(at("welcome"), true);
  }
}

function searchBy(file) {
  if (!file) return;
  if (!file.type.startsWith("image/")) {
    fail("That file is not a picture.");
    return;
  }
  go({ file });
}

// --- listening ------------------------------------------------------------------------------------------------------

at("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const words = at("words").value.trim();
  if (words) go({ words });
  else if (picture) go({ file: picture });
});
for (const choice of document.querySelectorAll("input[name=kind]")) {
  choice.addEventListener("change", () => {
    const state = new URLSearchParams(location.search);
    if (picture || state.has("q") || state.has("like")) {
      go({ words: state.get("q") ?? "", like: state.get("like") ?? "", file: picture });
    }
  });
}
at("examples").addEventListener("click", (event) => {
  if (event.target instanceof HTMLButtonElement) go({ words: event.target.textContent });
});
at("clear").addEventListener("click", () => go({ words: at("words").value.trim() }));
at("picture").addEventListener("change", (event) => {
  searchBy(event.target.files[0]);
  event.target.value = ""; // or the same file, chosen again, would be no change
});
at("home").addEventListener("click", (event) => {
  event.preventDefault();
  document.querySelector("input[name=kind][value='']").checked = true;
  go({});
});
addEventListener("popstate", follow);
addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
  if (file) searchBy(file);
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  at("drop").classList.add("over");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) at("drop").classList.remove("over");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  searchBy(event.dataTransfer.files[0]);
});

follow();
showTable().then(showJobs);
