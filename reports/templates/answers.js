"use strict";
const fields = [...document.querySelectorAll("fieldset")];
const kept = "mothlight " + document.body.dataset.of;
const answers = JSON.parse(localStorage.getItem(kept) || "{}");
const save = document.getElementById("save");
save.hidden = false;

function show(field) {
  const answer = answers[field.id];
  field.className = answer || "";
  for (const input of field.querySelectorAll("input")) input.checked = input.value === answer;
  document.getElementById("count").textContent = Object.keys(answers).length;
}

function answer(field, value) {
  answers[field.id] = value;
  localStorage.setItem(kept, JSON.stringify(answers));
  show(field);
}

function quoted(text) {
  return '"' + text.replaceAll('"', '""') + '"';
}

fields.forEach((field, place) => {
  show(field);
  field.addEventListener("change", (event) => answer(field, event.target.value));
  field.addEventListener("keydown", (event) => {
    const value = { y: "yes", n: "no" }[event.key];
    if (!value) return;
    answer(field, value);
    const next = fields[place + 1];
    if (next) {
      next.querySelector("input").focus();
      next.scrollIntoView({ block: "center" });
    }
  });
});
save.addEventListener("click", () => {
  const lines = fields.map((field) => [field.id, quoted(field.dataset.label), answers[field.id] || ""].join(","));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["image_id,label,shows\n", lines.join("\n"), "\n"], { type: "text/csv" }));
  link.download = "answers.csv";
  link.click();
});
