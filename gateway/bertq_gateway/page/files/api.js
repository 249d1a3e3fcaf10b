// Requests to the gateway, with the key of this tab.

const STORED_KEY = "bertq-api-key";

/** A request that got no answer, or an error. The status is 0 without an answer. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function storedKey() {
  return sessionStorage.getItem(STORED_KEY);
}

export function storeKey(key) {
  if (key) sessionStorage.setItem(STORED_KEY, key);
  else sessionStorage.removeItem(STORED_KEY);
}

/** Send a request; GET without a body. Paths are relative: a proxy may put a prefix before them. */
export async function send(path, body, signal) {
  const options = { headers: {}, cache: "no-store", signal };
  const key = storedKey();
  if (key) options.headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The gateway does not answer.");
  }
  if (!response.ok) throw new ApiError(response.status, await errorMessage(response));
  return response;
}

/** Return the message of an error, which has the form of the API of its path. */
async function errorMessage(response) {
  const text = await response.text();
  try {
    const body = JSON.parse(text);
    return String(body.error?.message ?? body.error ?? body.message ?? text);
  } catch {
    return text || response.statusText;
  }
}
