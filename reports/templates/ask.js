(() => {
  "use strict";

  const data = (id) => JSON.parse(document.getElementById(id).textContent);
  const form = document.getElementById("ask-form");
  const text = document.getElementById("ask-sql");
  const example = document.getElementById("ask-example");
  const status = document.getElementById("ask-status");
  const answer = document.getElementById("ask-answer");
  const MOST = 500; // rows that are shown

  const engine = async () => {
    const zipped = Uint8Array.from(atob(data("sql-engine")), (letter) => letter.charCodeAt(0));
    const plain = new Response(new Blob([zipped]).stream().pipeThrough(new DecompressionStream("gzip")));
    const SQL = await initSqlJs({ wasmBinary: await plain.arrayBuffer() });
    const base = new SQL.Database();
    const quoted = (name) => `"${name.replace(/"/g, '""')}"`;
    for (const table of data("sql-tables")) {
      if (table.columns.length === 0) continue;
      base.run(`create table ${quoted(table.name)} (${table.columns.map(quoted).join(", ")})`);
      const put = base.prepare(`insert into ${quoted(table.name)} values (${table.columns.map(() => "?").join(", ")})`);
      base.run("begin");
      for (const row of table.rows) put.run(row.map((value) => (typeof value === "boolean" ? Number(value) : value)));
      base.run("commit");
      put.free();
    }
    return base;
  };
  let started;

  const cell = (name, value) => {
    const made = document.createElement(name);
    const direction = document.createElement("bdi");
    const shown = typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(6)) : value;
    direction.textContent = value === null ? "–" : String(shown);
    made.append(direction);
    return made;
  };
  const table = (columns, rows) => {
    const made = document.createElement("table");
    const head = made.createTHead().insertRow();
    for (const name of columns) {
      const one = cell("th", name);
      one.scope = "col";
      head.append(one);
    }
    const body = made.createTBody();
    for (const row of rows.slice(0, MOST)) body.insertRow().append(...row.map((value) => cell("td", value)));
    return made;
  };
  const ask = async () => {
    answer.replaceChildren();
    status.textContent = "…";
    try {
      started ??= engine();
      const base = await started;
      const before = performance.now();
      const results = base.exec(text.value);
      const last = results[results.length - 1];
      const count = last ? last.values.length : 0;
      status.textContent = `${count.toLocaleString("en")} ${count === 1 ? "row" : "rows"}, ${(performance.now() - before).toFixed(0)} ms${count > MOST ? `; the first ${MOST} are shown` : ""}`;
      if (last) answer.append(table(last.columns, last.values));
    } catch (error) {
      status.textContent = error.message;
    }
  };
  example.addEventListener("change", () => { text.value = example.value; ask(); });
  form.addEventListener("submit", (event) => { event.preventDefault(); ask(); });
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) ask();
  });
  text.value = example.value;
  form.hidden = false;
})();
