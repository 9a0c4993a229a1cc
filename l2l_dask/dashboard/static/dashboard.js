// The switch of light and dark, the table of experiments, files to save. Text comes from whoever named an experiment: it is
// text.
"use strict";
{
  const root = document.documentElement;
  document.getElementById("look").addEventListener("click", () => {
    const dark = root.dataset.look ? root.dataset.look === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.look = dark ? "light" : "dark";
    try {
      localStorage.setItem("l2l-look", root.dataset.look);
    } catch {
      // In a frame of another site a browser may keep nothing.
    }
    repaint();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => repaint());
  document.getElementById("alone").href = location.href;

  function repaint(of = window.Bokeh?.index.roots ?? []) {
    for (const view of of) {
      view.request_repaint?.();
      repaint(view.children?.() ?? []);
    }
  }

  withDocument(doc => doc.on_message("l2l-save", ({ name, text }) => {
    const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }));

  const table = document.getElementById("experiments");
  if (table) withDocument(doc => {
    const told = doc.get_model_by_name("rows"), chosen = doc.get_model_by_name("chosen");
    const columns = [
      ["name", "experiment"], ["state", "state"], ["progress", "progress"], ["best", "best"], ["rate", "rate"],
      ["failed", "failed"], ["workers", "workers"], ["left", "time left"],
    ];
    const order = { by: "name", down: false };
    const compare = make("th", { textContent: "compare" });
    table.tHead.append(make("tr", {}, [compare, ...columns.map(([key, title]) => make("th", {
      className: key === "name" || key === "state" || key === "progress" ? "" : "number",
    }, [make("button", { type: "button", textContent: title, title: `sort by ${title}`, onclick: () => {
      order.down = order.by === key && !order.down;
      order.by = key;
      draw();
    } })]))]));

    const lines = new Map();
    function line(name) {
      const box = make("input", { type: "checkbox", ariaLabel: `compare ${name}`, onchange: () => {
        const others = chosen.tags.filter(other => other !== name);
        chosen.tags = box.checked ? [...others, name] : others;
        draw();
      } });
      const row = make("tr", {}, [make("td", { className: "choose" }, [box])]);
      for (const [key, title] of columns) {
        const cell = make("td", { className: key === "name" ? "name" : key === "state" || key === "progress" ? "" : "number" });
        if (key !== "name") cell.dataset.title = title;
        row.append(cell);
      }
      row.cells[1].append(make("a", { href: `search?store=${encodeURIComponent(name)}`, textContent: name }),
        make("div", { className: "said" }));
      row.cells[3].append(make("progress", { max: 1, ariaLabel: `progress of ${name}` }), make("span"));
      row.addEventListener("click", event => {
        if (!event.target.closest("a, input") && !getSelection().toString()) row.cells[1].firstChild.click();
      });
      return row;
    }
    function show(row, fact) {
      const said = row.cells[1].lastChild, bar = row.cells[3].firstChild;
      put(said, fact.problem || fact.what);
      said.className = fact.problem ? "said problem" : "said";
      put(row.cells[2], fact.problem ? "unreadable" : fact.state);
      bar.hidden = Boolean(fact.problem);
      if (bar.value !== fact.sort.progress) bar.value = fact.sort.progress ?? 0;
      put(row.cells[3].lastChild, fact.progress);
      ["best", "rate", "failed", "workers", "left"].forEach((key, i) => put(row.cells[4 + i], fact[key]));
      row.cells[0].firstChild.checked = chosen.tags.includes(fact.name);
      row.classList.toggle("chosen", chosen.tags.includes(fact.name));
    }
    function draw() {
      const { rows = [], none = "" } = told.tags[0] ?? {};
      const key = fact => order.by === "name" ? fact.name : order.by === "state" ? fact.state : fact.sort[order.by];
      const sorted = [...rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x == null || y == null) return (x == null) - (y == null);
        return (x < y ? -1 : x > y ? 1 : 0) * (order.down ? -1 : 1);
      });
      const names = new Set(rows.map(fact => fact.name));
      for (const [name, row] of lines) if (!names.has(name)) { row.remove(); lines.delete(name); }
      sorted.forEach((fact, i) => {
        if (!lines.has(fact.name)) lines.set(fact.name, line(fact.name));
        const row = lines.get(fact.name);
        if (table.tBodies[0].rows[i] !== row) table.tBodies[0].insertBefore(row, table.tBodies[0].rows[i] ?? null);
        show(row, fact);
      });
      table.hidden = rows.length === 0;
      document.getElementById("none").hidden = none === "";
      put(document.getElementById("none"), none);
    }
    told.properties.tags.change.connect(draw);
    draw();
  });

  function withDocument(use) {
    const doc = window.Bokeh?.documents[0];
    if (doc?.get_model_by_name("banner")) use(doc);
    else setTimeout(() => withDocument(use), 30);
  }
  function make(tag, properties, children = []) {
    const { className, ...rest } = properties ?? {};
    const element = Object.assign(document.createElement(tag), rest);
    if (className) element.className = className;
    element.append(...children);
    return element;
  }
  function put(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }
}
