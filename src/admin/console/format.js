// Times, numbers and names as people read them. Absolute times are UTC, as in the log and on the
// command line; "now" is the gateway's clock as far as it is known, not this computer's.

const NUMBER = new Intl.NumberFormat("en");
const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

let offset = 0;

/** Notes what the gateway's clock shows. */
export function setServerNow(iso) {
  const at = Date.parse(iso);
  if (Number.isFinite(at)) offset = at - Date.now();
}

/** The gateway's present, in milliseconds. */
export function now() {
  return Date.now() + offset;
}

/** `1,234`; a dash for what is not known. */
export function number(value) {
  return typeof value === "number" ? NUMBER.format(value) : "–";
}

/** `12.3K`. */
export function compact(value) {
  return typeof value === "number" ? COMPACT.format(value) : "–";
}

/** `0.4`, `12`, `1,234`. */
export function rate(value) {
  if (typeof value !== "number") return "–";
  if (value > 0 && value < 0.1) return "< 0.1";
  return value >= 10 || value === 0 ? NUMBER.format(Math.round(value)) : value.toFixed(1);
}

/** `2026-11-25 07:16:33 UTC`. */
export function absolute(iso) {
  const at = Date.parse(iso);
  if (!Number.isFinite(at)) return String(iso);
  return `${new Date(at).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** `07:16:33`, the time of day in UTC. */
export function clockTime(iso) {
  return absolute(iso).slice(11, 19);
}

const STEPS = [
  [86_400, "d"],
  [3_600, "h"],
  [60, "min"],
  [1, "s"],
];

/** `2 d 4 h`, `10 min`, `42 s`: the two largest units. */
export function duration(milliseconds) {
  let rest = Math.max(0, Math.round(milliseconds / 1000));
  const parts = [];
  for (const [size, unit] of STEPS) {
    const count = Math.floor(rest / size);
    if (count > 0) parts.push(`${count} ${unit}`);
    rest -= count * size;
    if (parts.length === 2 || (parts.length === 1 && count === 0)) break;
  }
  return parts.join(" ") || "0 s";
}

/** `3 min ago`, `in 2 h 5 min`, `just now`. */
export function relative(iso) {
  const distance = Date.parse(iso) - now();
  if (!Number.isFinite(distance)) return "";
  if (Math.abs(distance) < 1500) return "just now";
  return distance > 0 ? `in ${duration(distance)}` : `${duration(-distance)} ago`;
}

/** Whether a time is over; false for none. */
export function isPast(iso) {
  return Boolean(iso) && Date.parse(iso) <= now();
}

/** The first characters of a kid; the whole one is in a title and behind a copy button. */
export function shortKid(kid) {
  return kid.length > 13 ? `${kid.slice(0, 12)}…` : kid;
}

/** `1 client`, `2 clients`. */
export function plural(count, one, many = `${one}s`) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

/** `rotate_and_purge` as words: `Rotate and purge`. */
export function words(name) {
  const text = String(name ?? "").replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Who caused something, as the audit tells it. */
export function actor(value) {
  if (!value) return "–";
  if (typeof value === "string") return value;
  switch (value.kind) {
    case "admin":
      return value.name;
    case "offline":
      return `${value.name} (command line)`;
    default:
      return words(value.kind);
  }
}
