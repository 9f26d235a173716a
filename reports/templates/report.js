(() => {
  "use strict";

  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (name, parts = {}) => Object.assign(document.createElement(name), parts);

  // pictures, large: arrow keys step through all of the page, Escape closes
  const links = all(".picture");
  const box = make("dialog");
  const large = make("img", { alt: "" });
  const about = make("p");
  const [before, after, close] = ["← before", "after →", "close"].map((text) => make("button", { type: "button", textContent: text }));
  box.setAttribute("aria-label", "Picture");
  box.append(large, about, before, after, close);
  document.body.append(box);
  let place = 0;
  const show = (at) => {
    place = (at + links.length) % links.length;
    const image = links[place].querySelector("img");
    large.src = links[place].getAttribute("href") ?? image.src;
    large.alt = image.alt;
    large.className = links[place].classList.contains("tiny") ? "tiny" : "";
    about.textContent = `${image.alt} (${place + 1} of ${links.length})`;
  };
  links.forEach((link, at) => {
    const open = (event) => {
      event.preventDefault();
      show(at);
      box.showModal();
    };
    link.addEventListener("click", open);
    if (link.tagName === "A") return;
    link.tabIndex = 0; // a picture inside of the page has no address of its own
    link.setAttribute("role", "button");
    link.addEventListener("keydown", (event) => { if (event.key === "Enter") open(event); });
  });
  before.addEventListener("click", () => show(place - 1));
  after.addEventListener("click", () => show(place + 1));
  close.addEventListener("click", () => box.close());
  box.addEventListener("click", (event) => { if (event.target === box) box.close(); });
  box.addEventListener("close", () => links[place].focus());
  box.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") show(place - 1);
    if (event.key === "ArrowRight") show(place + 1);
  });

  // tables: a click on a head sorts by it, words typed above filter the rows
  const worth = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.v ?? cell.textContent;
    const number = Number.parseFloat(text.replace(/,/g, ""));
    return Number.isNaN(number) ? text.trim() : number;
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : typeof a === "number" ? -1 : typeof b === "number" ? 1 : a.localeCompare(b));
  for (const table of all("table.sortable")) {
    all("thead th", table).forEach((head, column) => {
      const button = make("button", { type: "button" });
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        all("thead th", table).forEach((one) => one.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const rows = [...table.tBodies[0].rows];
        rows.sort((a, b) => (up ? 1 : -1) * compare(worth(a, column), worth(b, column)));
        table.tBodies[0].append(...rows);
      });
    });
  }
  all("table.filtered, table.bugs").forEach((table, number) => {
    const rows = [...table.tBodies[0].rows];
    if (rows.length < 8) return;
    const field = make("input", { type: "search", id: `filter-${number}` });
    const label = make("label", { textContent: "only rows with ", htmlFor: field.id });
    const line = make("p", { className: "filter" });
    label.append(field);
    line.append(label);
    table.before(line);
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/);
      for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    });
  });

  // commands: a click copies
  if (navigator.clipboard) {
    for (const code of all("code.command")) {
      code.tabIndex = 0;
      code.setAttribute("role", "button");
      code.title = "copy";
      const copy = () => navigator.clipboard.writeText(code.textContent).then(() => { code.title = "copied"; });
      code.addEventListener("click", copy);
      code.addEventListener("keydown", (event) => { if (event.key === "Enter") copy(); });
    }
  }

  // the map: the picture beside the pointer
  const peek = make("div", { id: "peek", hidden: true });
  document.body.append(peek);
  const circles = all(".map circle");
  const ring = (group) => circles.forEach((one) => one.classList.toggle("same", one.dataset.group === group));
  let shown;
  for (const link of all(".map a, .map .peek")) {
    link.addEventListener("mousemove", (event) => {
      if (shown !== link) {
        shown = link;
        const picture = make("img", { src: link.getAttribute("href") ?? link.dataset.picture, alt: "" });
        peek.replaceChildren(picture, make("span", { textContent: link.querySelector("title").textContent }));
      }
      ring(link.querySelector("circle").dataset.group);
      peek.hidden = false;
      peek.style.left = `${Math.min(event.clientX + 14, innerWidth - 200)}px`;
      peek.style.top = `${Math.min(event.clientY + 14, innerHeight - 220)}px`;
    });
    link.addEventListener("mouseleave", () => { peek.hidden = true; ring(null); });
  }
})();
