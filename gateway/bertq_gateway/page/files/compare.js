// The form for sentences, the heat map and the nearest pairs.

import { send } from "./api.js";
import { byId, create, showMessage } from "./dom.js";
import { DEFAULT, densify, similarityMatrix } from "./similarity.js";

const MAX_SENTENCES = 40;
const MAX_PAIRS = 8;
const TASK_NAMES = { embed: "vectors", sparse: "sparse rows", score: "scores" };

let models = [];
let running = null;

/** Show the models that workers serve; the chosen one stays chosen. */
export function showModels(listed) {
  const found = listed.filter((model) => model.alias_of === null);
  if (JSON.stringify(found) === JSON.stringify(models)) return;
  models = found;
  const select = byId("model"), chosen = select.value;
  select.replaceChildren(...(models.length ? models : [{ id: "none" }]).map((model) =>
    create("option", { value: model.id, textContent: model.id })));
  if (models.some((model) => model.id === chosen)) select.value = chosen;
  select.disabled = !models.length;
  showModel();
}

const chosenModel = () => models.find((model) => model.id === byId("model").value);

const isReranker = (model) => model.task === "score" && model.dimensions === 1;

function showModel() {
  const model = chosenModel();
  const facts = model ? factsOf(model) : [];
  byId("model-facts").replaceChildren(...facts.flatMap(([name, value]) =>
    [create("dt", { textContent: name }), create("dd", { textContent: value })]));
  const prompts = model?.prompts ?? [];
  byId("prompt-field").hidden = !prompts.length || model.task === "score";
  const standard = model?.default_prompt ? `default (${model.default_prompt})` : "none";
  byId("prompt").replaceChildren(create("option", { value: "", textContent: standard }),
    ...prompts.map((name) => create("option", { value: name, textContent: name })));
}

function factsOf(model) {
  const facts = [["Returns", `${TASK_NAMES[model.task] ?? model.task}: ${model.description}`]];
  if (model.task !== "score") facts.push(["Similarity", model.similarity ?? DEFAULT]);
  if (model.task === "embed") facts.push(["Dimensions", model.dimensions]);
  return facts;
}

/** Return what a model says of sentences: numbers, and the titles of their columns. */
async function compute(model, sentences, signal) {
  const cut = [];
  async function ask(path, body) {
    const response = await send(path, { model: model.id, ...body }, signal);
    const header = response.headers.get("X-Truncated-Inputs");
    cut.push(...(header?.match(/"(.*)"/)?.[1].split(" ").map(Number) ?? []));
    return response.json();
  }
  const name = byId("prompt").value, prompt = name ? { prompt_name: name } : {};
  if (isReranker(model)) {
    const rows = await Promise.all(sentences.map(async (query) => {
      const { results } = await ask("v1/rerank", { query, documents: sentences });
      const row = [];
      for (const { index, relevance_score } of results) row[index] = relevance_score;
      return row;
    }));
    return { title: "Scores: row as the query, column as the document", rows, cut: [], isSymmetric: false };
  }
  if (model.task === "score") {
    const found = await ask("predict", { inputs: sentences.map((text) => [text]) });
    const labels = model.labels.length ? model.labels : found[0].map(({ label }) => label).sort();
    const rows = found.map((row) =>
      labels.map((label) => row.find((entry) => entry.label === label).score));
    return { title: "Scores of the labels", rows, cut, labels };
  }
  const vectors = model.task === "sparse"
    ? densify(await ask("embed_sparse", { inputs: sentences, ...prompt }))
    : (await ask("v1/embeddings", { input: sentences, ...prompt })).data.map((one) => one.embedding);
  const similarity = model.similarity ?? DEFAULT;
  const rows = similarityMatrix(similarity, vectors);
  return { title: `Similarity (${similarity})`, rows, cut, isSymmetric: true };
}

async function compare() {
  const lines = byId("sentences").value.split("\n").map((line) => line.trim());
  const sentences = lines.filter((line) => line);
  const model = chosenModel();
  const problem = checkInput(sentences, model);
  showMessage(byId("compare-error"), problem);
  showMessage(byId("compare-note"), null);
  running?.abort();
  if (problem) {
    byId("result").hidden = true;
    return;
  }
  const mine = running = new AbortController();
  const button = byId("compare-button");
  button.setAttribute("aria-busy", "true");
  try {
    const started = performance.now();
    const found = await compute(model, sentences, mine.signal);
    const milliseconds = Math.round(performance.now() - started);
    showResult(sentences, found);
    const count = `${sentences.length} ${sentences.length === 1 ? "sentence" : "sentences"}`;
    const cut = found.cut.length ? ` Cut to ${model.max_input_tokens} tokens: sentence ` +
      `${found.cut.map((index) => index + 1).join(", ")}.` : "";
    showMessage(byId("compare-note"), `${count} in ${milliseconds} ms with ${model.id}.${cut}`);
  } catch (error) {
    if (error.name === "AbortError") return;
    byId("result").hidden = true;
    showMessage(byId("compare-error"), error.message);
    if (error.status === 401) document.dispatchEvent(new Event("key-refused"));
  } finally {
    if (running === mine) button.removeAttribute("aria-busy");
  }
}

function checkInput(sentences, model) {
  // The state of the service says why there is no model.
  if (!model) return byId("service-error").textContent || "The models are not known yet: try again.";
  const isClassifier = model.task === "score" && !isReranker(model);
  if (sentences.length < (isClassifier ? 1 : 2)) return "Enter at least two sentences, one on each line.";
  if (sentences.length > MAX_SENTENCES) {
    return `There are ${sentences.length} sentences: enter at most ${MAX_SENTENCES}.`;
  }
  return null;
}

function showResult(sentences, { title, rows, labels, isSymmetric }) {
  byId("matrix-title").textContent = title;
  showMatrix(sentences, rows, labels ?? sentences, title, !labels);
  byId("pairs-part").hidden = Boolean(labels);
  if (!labels) showPairs(sentences, rows, isSymmetric);
  byId("result").hidden = false;
}

const decimalsOf = (numbers) => {
  const largest = Math.max(...numbers.map(Math.abs));
  return largest >= 100 ? 0 : largest >= 10 ? 1 : 2;
};

const format = (value, decimals) => value.toFixed(decimals).replace("-", "\u2212");

function showMatrix(sentences, rows, columns, title, isSquare) {
  // The diagonal, a sentence with itself, would take most of the scale.
  const shown = rows.flatMap((row, i) => row.filter((_, j) => !isSquare || i !== j));
  const low = Math.min(...shown), high = Math.max(...shown);
  const decimals = decimalsOf(rows.flat());
  const table = byId("matrix");
  table.caption.textContent = title;
  const heads = columns.map((text, index) => isSquare
    ? create("th", { scope: "col" }, String(index + 1), create("span", { className: "hidden", textContent: ` ${text}` }))
    : create("th", { scope: "col", textContent: text }));
  table.tHead.replaceChildren(create("tr", {}, create("td"), ...heads));
  table.tBodies[0].replaceChildren(...rows.map((row, i) => {
    const name = create("span", { className: "sentence", textContent: sentences[i] });
    const head = create("th", { scope: "row" }, create("span", { className: "row-number", textContent: i + 1 }), name);
    return create("tr", {}, head, ...row.map((value, j) => {
      const cell = create("td", { textContent: format(value, decimals) });
      if (isSquare && i === j) cell.className = "self";
      else {
        const share = high > low ? (value - low) / (high - low) : 0.5;
        cell.style.setProperty("--share", `${(100 * share).toFixed(1)}%`);
        // Where the text must change its color for contrast, in the dark and in the light scheme.
        cell.className = share > 0.74 ? "high" : share > 0.59 ? "middle" : "low";
      }
      return cell;
    }));
  }));
  byId("legend-low").textContent = format(low, decimals);
  byId("legend-high").textContent = format(high, decimals);
}

function showPairs(sentences, rows, isSymmetric) {
  const pairs = rows.flatMap((row, i) => row.map((value, j) => ({ i, j, value })))
    .filter(({ i, j }) => (isSymmetric ? i < j : i !== j))
    .sort((a, b) => b.value - a.value)
    .slice(0, MAX_PAIRS);
  const decimals = decimalsOf(rows.flat()) + 1;
  byId("pairs").replaceChildren(...pairs.map(({ i, j, value }) => create("li", {},
    create("span", { className: "value", textContent: format(value, decimals) }),
    create("span", { className: "texts" },
      create("span", { textContent: sentences[i] }), create("span", { textContent: sentences[j] })))));
}

export function start() {
  byId("model").addEventListener("change", showModel);
  byId("compare-form").addEventListener("submit", (event) => {
    event.preventDefault();
    compare();
  });
  byId("sentences").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      compare();
    }
  });
}
