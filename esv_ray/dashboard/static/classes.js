// Names of classes.

import { made, plain } from "./dom.js";

/** Return the name of a class as text; its number where the model has no names. */
export function className(output, id) {
  if (id === null || id === undefined) return "–";
  const name = output.names?.[id];
  return name && name.trim() ? plain(name) : `class ${id}`;
}

/** Return the class that a text means: a name, a number, or null. */
export function classOf(output, text) {
  const named = output.names ? output.names.findIndex((name) => plain(name) === text) : -1;
  if (named >= 0) return named;
  return /^\d{1,9}$/.test(text) && Number(text) < output.n_classes ? Number(text) : null;
}

/** Return a field for the name of a class, with suggestions. */
export function classField(output, value, onchange) {
  const list = made("datalist", { id: "classes" }, (output.names ?? []).map((name) => made("option", { value: plain(name) })));
  const input = made("input", {
    type: "text", list: "classes", autocomplete: "off", placeholder: "any",
    value: value === null ? "" : className(output, Number(value)).replace(/^class (?=\d+$)/, ""),
    onchange: () => {
      const found = input.value ? classOf(output, input.value.trim()) : "";
      input.setCustomValidity(found === null ? "There is no such class: choose one from the list." : "");
      if (found === null) input.reportValidity();
      else onchange(String(found));
    },
  });
  return { input, list };
}
