// Latencies of the gateway, from the histograms of /metrics.

const LINE = /^(bertq_http_request_seconds_bucket|bertq_http_requests_total)\{(.*)\} (\S+)$/;

/** Paths that answer no texts: the page itself sends most of their requests. */
const QUIET = new Set(["/status/server", "/metrics", "/info", "/v1/models", "/v1/models/{model}"]);

/** Return for each route its requests, errors and buckets: pairs of a bound and a cumulative count. */
export function parseMetrics(text) {
  const routes = new Map();
  for (const line of text.split("\n")) {
    const [, name, fields, value] = LINE.exec(line) ?? [];
    if (!name) continue;
    const labels = Object.fromEntries([...fields.matchAll(/(\w+)="([^"]*)"/g)].map((m) => m.slice(1)));
    if (QUIET.has(labels.route)) continue;
    if (!routes.has(labels.route)) {
      routes.set(labels.route, { route: labels.route, requests: 0, errors: 0, buckets: [] });
    }
    const found = routes.get(labels.route), count = Number(value);
    if (labels.le) {
      found.buckets.push([labels.le === "+Inf" ? Infinity : Number(labels.le), count]);
    } else {
      found.requests += count;
      if (!labels.status.startsWith("2")) found.errors += count;
    }
  }
  return [...routes.values()];
}

/** Add up the buckets of all routes. */
export function totalBuckets(routes) {
  const sums = new Map();
  for (const { buckets } of routes) {
    for (const [bound, count] of buckets) sums.set(bound, (sums.get(bound) ?? 0) + count);
  }
  return [...sums];
}

/** Return the buckets of the requests between two times. */
export function subtractBuckets(later, earlier) {
  const before = new Map(earlier);
  return later.map(([bound, count]) => [bound, count - (before.get(bound) ?? 0)]);
}

/** Return a quantile in seconds, interpolated as in Prometheus; null without requests. */
export function quantile(buckets, q) {
  const total = buckets.at(-1)?.[1] ?? 0;
  if (total <= 0) return null;
  let lower = 0, below = 0;
  for (const [bound, count] of buckets) {
    if (count >= q * total) {
      if (bound === Infinity) return lower;
      return lower + (bound - lower) * (q * total - below) / (count - below || 1);
    }
    [lower, below] = [bound, count];
  }
  return lower;
}
