// Times and sizes, as the chosen language writes them.

import { language } from "./words.mjs";

const MINUTE = 60;
const GIB = 2 ** 30;

/**
 * @param {number} value
 * @param {string} unit
 * @param {Intl.NumberFormatOptions} [options]
 */
function withUnit(value, unit, options) {
  return new Intl.NumberFormat(language(), { style: "unit", unit, unitDisplay: "long", ...options }).format(value);
}

/**
 * @param {number} seconds
 * @returns {string} such as `20 seconds`, `3 minutes`, `2 hours 10 minutes`
 */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < MINUTE) return withUnit(whole, "second");
  const minutes = Math.round(whole / MINUTE);
  if (minutes < 60) return withUnit(minutes, "minute");
  const parts = [withUnit(Math.floor(minutes / 60), "hour")];
  if (minutes % 60) parts.push(withUnit(minutes % 60, "minute"));
  return parts.join(" ");
}

/**
 * @param {number} unix seconds
 * @returns {string} the time; with its day, if that is not today
 */
export function moment(unix) {
  const when = new Date(unix * 1000);
  const isToday = when.toDateString() === new Date().toDateString();
  return when.toLocaleString(language(), { ...(isToday ? {} : { dateStyle: "medium" }), timeStyle: "short" });
}

/**
 * @param {number} n
 * @returns {string} such as `640 KiB`, `3.2 MiB`, `12 GiB`
 */
export function bytes(n) {
  if (n >= GIB) return gib(n);
  const [size, unit] = n >= 2 ** 20 ? [2 ** 20, "MiB"] : [2 ** 10, "KiB"];
  return `${rounded(n / size)} ${unit}`;
}

/**
 * @param {number} n bytes
 * @returns {string} such as `46 GiB`
 */
export const gib = (n) => `${rounded(n / GIB)} GiB`;

/** @param {number} value */
function rounded(value) {
  return new Intl.NumberFormat(language(), { maximumFractionDigits: value < 10 ? 1 : 0 }).format(value);
}

