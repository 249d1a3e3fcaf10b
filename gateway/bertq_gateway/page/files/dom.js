// Building elements. Text is always set as textContent.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/** Create an element with properties, and with strings or elements as its children. */
export function create(name, properties = {}, ...children) {
  const element = document.createElement(name);
  Object.assign(element, properties);
  element.append(...children);
  return element;
}

export function createSvg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Show a message, or hide its element if there is none. */
export function showMessage(element, message) {
  element.textContent = message ?? "";
  element.hidden = !message;
}

/** Fill a table. A column has a title and a function from an item to text or an element. */
export function fillTable(table, columns, items) {
  const head = columns.map(({ title, isNumber }) =>
    create("th", { scope: "col", className: isNumber ? "number" : "", textContent: title }));
  table.tHead.replaceChildren(create("tr", {}, ...head));
  table.tBodies[0].replaceChildren(...items.map((item) => create("tr", {}, ...columns.map(
    ({ value, isNumber }, index) => {
      const cell = create(index ? "td" : "th", { className: isNumber ? "number" : "" }, value(item));
      if (!index) cell.scope = "row";
      return cell;
    }))));
}

export const formatCount = (number) => Math.round(number).toLocaleString("en");

export const formatRate = (number) =>
  number >= 100 ? formatCount(number) : String(Number(number.toPrecision(2)));

export function formatSeconds(seconds) {
  if (seconds === null) return "–";
  return seconds < 1 ? `${Math.round(1000 * seconds)} ms` : `${seconds.toFixed(1)} s`;
}

const UNITS = [["days", 86400], ["h", 3600], ["min", 60], ["s", 1]];

/** Return a duration in its largest unit. */
export function formatAge(seconds) {
  const [unit, size] = UNITS.find(([, size]) => seconds >= 2 * size) ?? UNITS.at(-1);
  return `${Math.floor(Math.max(seconds, 0) / size)} ${unit}`;
}
