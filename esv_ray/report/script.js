"use strict";
// Sorting and filtering of tables, tooltips, and stepping through the elements of a video. All texts come from the page.
(() => {
  const made = (tag, name, text) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text) element.textContent = text;
    return element;
  };
  const cellText = (row, column) => row.cells[column].textContent;
  const number = (text) => {
    const value = Number(text.replace(/,/g, "").replace("\u2212", "-"));
    return text === "" || text === "\u2013" || Number.isNaN(value) ? null : value;
  };

  // Empty cells come last in either direction.
  function sort(table, column, descending) {
    const body = table.tBodies[0];
    const numeric = table.tHead.rows[0].cells[column].classList.contains("n");
    const keyed = Array.from(body.rows, (row, place) => {
      const text = cellText(row, column);
      return { row, place, key: numeric ? number(text) : text === "\u2013" ? null : text };
    });
    keyed.sort((a, b) => {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.place - b.place;
      const order = numeric ? a.key - b.key : a.key.localeCompare(b.key, undefined, { numeric: true });
      return (descending ? -order : order) || a.place - b.place;
    });
    body.append(...keyed.map((each) => each.row));
  }

  function sortable(table) {
    const heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach((head, column) => {
      const button = made("button", "", head.textContent);
      button.type = "button";
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        const first = head.classList.contains("n") ? "descending" : "ascending";
        const other = first === "ascending" ? "descending" : "ascending";
        heads.forEach((each) => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", before === first ? other : first);
        sort(table, column, head.getAttribute("aria-sort") === "descending");
      });
    });
  }

  // Whether a cell is a number or names a class by it: "1", "class 1", "walking (1)".
  const isNumber = (cell, number) => cell === number || cell === `class ${number}` || cell.endsWith(`(${number})`);

  // A number finds the cells that are it, if there are any: else "1" would find every id and name with a 1 in it.
  function tester(word, texts) {
    const exactly = (cells) => cells.some((cell) => isNumber(cell, word));
    if (/^[0-9]+$/.test(word) && texts.some(exactly)) return exactly;
    return (cells) => cells.some((cell) => cell.includes(word));
  }

  let filters = 0;
  function filter(label, items, texts, kind, place) {
    const field = made("input");
    const shown = made("output");
    const name = made("label", "", label);
    field.type = "search";
    field.id = name.htmlFor = `filter-${++filters}`;
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      const tests = words.map((word) => tester(word, texts));
      let count = 0;
      items.forEach((item, at) => {
        item.hidden = !tests.every((test) => test(texts[at]));
        count += !item.hidden;
      });
      shown.textContent = words.length ? `${count} of ${items.length} ${kind}` : "";
      document.querySelectorAll("#videos .group").forEach((group) => {
        group.hidden = words.length > 0 && !group.querySelector(".video:not([hidden])");
      });
    });
    const bar = made("div", "filter");
    bar.append(name, field, shown);
    place(bar);
  }

  function filterable(table) {
    const heads = Array.from(table.tHead.rows[0].cells);
    const columns = heads.flatMap((head, column) => (head.classList.contains("n") ? [] : [column]));
    if (!columns.length || table.tBodies[0].rows.length < 8) return;
    const rows = Array.from(table.tBodies[0].rows);
    const texts = rows.map((row) => columns.map((column) => cellText(row, column).toLowerCase()));
    const byClass = heads.some((head) => /class|label|name/.test(head.textContent));
    const frame = table.parentElement;
    filter(byClass ? "Filter by class" : "Filter rows", rows, texts, "rows", (bar) => frame.before(bar));
  }

  // A table becomes sortable when its reader opens it: most are never opened.
  document.querySelectorAll("table.data").forEach((table) => {
    const prepare = () => {
      filterable(table);
      sortable(table);
    };
    const details = table.closest("details");
    if (details) details.addEventListener("toggle", prepare, { once: true });
    else prepare();
  });

  // Name and value of each column; the element and its frame once, although a comparison has two tables.
  function values(video, place) {
    return Array.from(video.querySelectorAll("details table")).flatMap((table, number) => {
      const side = table.parentElement.dataset.side;
      const row = table.tBodies[0].rows[place];
      const pairs = Array.from(row ? row.cells : [], (cell, column) => {
        const name = table.tHead.rows[0].cells[column].textContent;
        return [side && column > 1 ? `${side}, ${name}` : name, cell.textContent];
      });
      return number ? pairs.slice(2) : pairs;
    });
  }

  function steps(video) {
    const count = Number(video.dataset.n);
    const plots = Array.from(video.querySelectorAll(".plot"));
    if (!count || !plots.length) return;
    const pictures = video.querySelectorAll(".film li");
    const field = made("input", "scrub");
    const readout = made("p", "readout", count > 1 ? "Point at an element, or move the slider with the arrow keys." : "");
    Object.assign(field, { type: "range", min: 0, max: count - 1, step: 1, value: 0 });
    field.setAttribute("aria-label", `element of ${video.querySelector(".id").textContent}`);
    const speak = (told) => field.setAttribute("aria-valuetext", told.map((pair) => pair.join(" ")).join(", "));
    speak(values(video, 0));
    const show = (place) => {
      field.value = place;
      video.classList.add("stepping");
      plots.forEach((plot) => {
        const band = plot.querySelector(".at");
        band.setAttribute("x", `${(100 * place) / count}%`);
        band.setAttribute("width", `${100 / count}%`);
      });
      const told = values(video, place);
      readout.replaceChildren(
        ...told.map(([name, text]) => {
          const part = made("span", "", `${name} `);
          part.append(made("b", "", text));
          return part;
        }),
      );
      speak(told);
      pictures.forEach((item) => {
        item.classList.toggle("at", Number(item.value) === place);
        const picture = item.querySelector("img");
        if (Number(item.value) !== place || !picture) return;
        const large = made("img");
        large.src = picture.src;
        large.alt = "";
        readout.prepend(large);
      });
    };
    field.addEventListener("input", () => show(Number(field.value)));
    field.addEventListener("focus", () => show(Number(field.value)));
    plots.forEach((plot) => {
      plot.addEventListener("pointermove", (event) => {
        const box = plot.getBoundingClientRect();
        const place = Math.floor(((event.clientX - box.left) / box.width) * count);
        if (place >= 0 && place < count && (place !== Number(field.value) || !video.classList.contains("stepping"))) show(place);
      });
    });
    video.querySelector("details").before(field, readout);
  }

  // What a mark of a figure shows, beside the pointer.
  const tip = made("div", "tip");
  tip.hidden = true;
  tip.setAttribute("aria-hidden", "true");
  document.body.append(tip);
  document.addEventListener("pointermove", (event) => {
    const mark = event.target instanceof Element ? event.target.closest("[data-tip]") : null;
    tip.hidden = !mark;
    if (!mark) return;
    if (tip.source !== mark) {
      tip.source = mark;
      tip.replaceChildren(...mark.dataset.tip.split("; ").map((line) => made("div", "", line)));
    }
    const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = `${Math.max(8, Math.min(room, event.clientX + 14))}px`;
    tip.style.top = `${event.clientY + 18}px`;
  });

  const videos = Array.from(document.querySelectorAll("#videos .video"));
  document.querySelectorAll(".video").forEach(steps);
  if (videos.length > 3) {
    const parts = "header > *, figcaption bdi";
    const texts = videos.map((video) => Array.from(video.querySelectorAll(parts), (part) => part.textContent.toLowerCase()));
    const place = (bar) => document.querySelector("#videos .key").before(bar);
    filter("Filter by class or id", videos, texts, "videos", place);
  }
})();
