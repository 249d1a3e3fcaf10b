// The live state of the service: workers, queues, rates and latencies.

import { send } from "./api.js";
import { byId, create, createSvg, fillTable, formatAge, formatCount, formatRate, formatSeconds, showMessage } from "./dom.js";
import { parseMetrics, quantile, subtractBuckets, totalBuckets } from "./latency.js";

const HISTORY_SAMPLES = 100;
const LATENCY_SAMPLES = 20;

const histories = { sentences: [], requests: [], waiting: [], latency: [] };
const bucketHistory = [];

/** Show whether requests can be answered; /readyz needs no key. */
export async function refreshHealth() {
  const badge = byId("health");
  let state, message;
  try {
    [state, message] = ["ready", await (await send("readyz")).text()];
  } catch (error) {
    [state, message] = error.status ? ["empty", error.message] : ["down", "no answer"];
  }
  message = message.replace(/^ready: .*/, "ready");
  badge.dataset.state = state;
  // An unchanged text would be announced again.
  if (badge.textContent !== message) badge.textContent = message;
}

/** Read the state of the service, and show it. */
export async function refreshService() {
  const [status, metrics] = await Promise.all([
    send("status/server").then((response) => response.json()),
    send("metrics").then((response) => response.text()),
  ]);
  const routes = parseMetrics(metrics);
  const workers = Object.values(status.workers), queues = Object.values(status.queues);
  showMessage(byId("service-error"), workers.length ? null
    : "No worker is alive: start one, as with bertq serve.");
  showWarnings(status.warnings);
  showTiles(status, queues, routes);
  showWorkers(workers);
  showQueues(queues, workers);
  showRoutes(routes);
  byId("live").hidden = false;
  byId("live").classList.remove("stale");
}

/** Show why there is no state; earlier numbers stay, in grey. */
export function showFailure(message) {
  showMessage(byId("service-error"), message);
  if (!byId("tiles").hasChildNodes()) byId("live").hidden = true;
  byId("live").classList.add("stale");
}

function showWarnings(warnings) {
  byId("warnings").hidden = !warnings.length;
  byId("warnings").replaceChildren(...warnings.map((text) => create("li", { textContent: text })));
}

function note(history, value) {
  history.push(value);
  if (history.length > HISTORY_SAMPLES) history.shift();
  return history;
}

function showTiles(status, queues, routes) {
  const { statistic } = status;
  const waiting = queues.reduce((sum, queue) => sum + queue.chunks, 0);
  const buckets = totalBuckets(routes);
  const recent = subtractBuckets(buckets, bucketHistory[0] ?? buckets);
  note(bucketHistory, buckets);
  if (bucketHistory.length > LATENCY_SAMPLES) bucketHistory.shift();
  const half = quantile(recent, 0.5), most = quantile(recent, 0.95);
  const tiles = [
    ["Sentences per second", formatRate(statistic.sequences_per_second),
      `${formatCount(statistic.num_total_seq)} so far`, note(histories.sentences, statistic.sequences_per_second)],
    ["Requests per second", formatRate(statistic.requests_per_second),
      `${formatCount(statistic.num_data_request)} so far, active clients: ${formatCount(statistic.num_active_client)}`,
      note(histories.requests, statistic.requests_per_second)],
    ["Waiting chunks", formatCount(waiting),
      `${formatCount(status.unacked)} with workers`, note(histories.waiting, waiting)],
    ["Median latency over HTTP", formatSeconds(half),
      half === null ? "no requests in the last minute" : `95 % within ${formatSeconds(most)}`,
      note(histories.latency, half ?? 0)],
  ];
  byId("tiles").replaceChildren(...tiles.map(([name, value, detail, history]) =>
    create("div", {}, create("dt", { textContent: name }),
      create("dd", { className: "big", textContent: value }),
      create("dd", { className: "hint", textContent: detail }),
      create("dd", { className: "line" }, sparkline(history)))));
}

function sparkline(values) {
  const top = Math.max(...values, 1e-9), step = 100 / (HISTORY_SAMPLES - 1);
  const start = 100 - step * (values.length - 1);
  const points = values.map((value, index) =>
    `${(start + step * index).toFixed(1)},${(23 - 22 * value / top).toFixed(1)}`);
  const area = `${start.toFixed(1)},24 ${points.join(" ")} 100,24`;
  return createSvg("svg", { viewBox: "0 0 100 24", preserveAspectRatio: "none", "aria-hidden": "true" },
    createSvg("polygon", { points: area }), createSvg("polyline", { points: points.join(" ") }));
}

function showWorkers(workers) {
  const columns = [
    { title: "Worker", value: (one) => one.node },
    { title: "Model", value: (one) => one.model_name ?? one.model },
    { title: "Device", value: (one) => (one.device_name === one.device ? one.device : `${one.device} (${one.device_name})`) },
    { title: "Queues", value: (one) => one.queues.join(", ") },
    { title: "Sentences/s", isNumber: true, value: (one) => formatRate(one.work.sentences_per_second) },
    { title: "Busy", isNumber: true, value: (one) => create("span", { className: "busy" },
      create("meter", { value: one.work.busy, ariaHidden: "true" }), `${Math.round(100 * one.work.busy)} %`) },
    { title: "Batch", isNumber: true, value: (one) => formatRate(one.work.batch_rows) },
    { title: "Sentences", isNumber: true, value: (one) => formatCount(one.work.sentences) },
    { title: "Failures", isNumber: true, value: (one) => formatCount(one.work.failures) },
    { title: "Memory", isNumber: true, value: (one) => `${formatCount(one.work.memory / 2 ** 20)} MiB` },
    { title: "Up", isNumber: true, value: (one) => formatAge(Date.now() / 1000 - one.started) },
  ];
  fillTable(byId("workers"), columns, workers);
}

function showQueues(queues, workers) {
  const names = new Map(workers.map((one) => [one.fingerprint, one.model_name ?? one.model]));
  const used = queues.filter((queue) => queue.chunks || queue.workers.length);
  fillTable(byId("queues"), [
    { title: "Queue", value: (queue) => queue.name },
    { title: "Waiting chunks", isNumber: true, value: (queue) => formatCount(queue.chunks) },
    { title: "Workers", isNumber: true, value: (queue) => formatCount(queue.workers.length) },
    { title: "Model", value: (queue) => names.get(queue.fingerprint) ?? queue.fingerprint?.slice(0, 12) ?? "–" },
  ], used);
}

function showRoutes(routes) {
  const used = routes.filter((one) => one.requests).sort((a, b) => b.requests - a.requests);
  fillTable(byId("routes"), [
    { title: "Route", value: (one) => one.route },
    { title: "Requests", isNumber: true, value: (one) => formatCount(one.requests) },
    { title: "Errors", isNumber: true, value: (one) => formatCount(one.errors) },
    { title: "Median", isNumber: true, value: (one) => formatSeconds(quantile(one.buckets, 0.5)) },
    { title: "95 % within", isNumber: true, value: (one) => formatSeconds(quantile(one.buckets, 0.95)) },
  ], used);
}
