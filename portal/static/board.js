// The board of tickets: a card goes to another column by mouse, or by arrow keys and Enter; what the step asks for is
// asked in a dialog, whose form is posted as any other. Without this file the cards' links lead to the same forms.
"use strict";
(() => {
  const board = document.querySelector("[data-board]");
  const dialog = document.getElementById("move");
  if (!board || !dialog) return;
  const lanes = [...board.querySelectorAll("[data-lane]")];
  const cards = [...board.querySelectorAll(".ticket")];
  const say = document.querySelector("[data-say]");
  const forms = [...dialog.querySelectorAll("form[data-step]")];
  let held = null; // the card that is being moved
  let target = null; // the lane that the keys chose
  document.querySelectorAll(".by-script").forEach((part) => { part.hidden = false; });

  const moves = (card) => new Map(card.dataset.moves.trim().split(/\s+/).filter(Boolean).map((m) => m.split(":")));

  function clear() {
    lanes.forEach((lane) => lane.classList.remove("may", "target"));
    target = null;
  }

  function offer(card) {
    const able = moves(card);
    lanes.forEach((lane) => lane.classList.toggle("may", able.has(lane.dataset.lane)));
  }

  function ask(card, step) {
    const form = forms.find((f) => f.dataset.step === step);
    clear();
    if (!form) return false;
    forms.forEach((f) => { f.hidden = f !== form; });
    form.action = `/tickets/${encodeURIComponent(card.dataset.id)}/${step}`;
    form.elements.version.value = card.dataset.version;
    form.elements.key.value = [...crypto.getRandomValues(new Uint8Array(12))].map((b) => b.toString(16).padStart(2, "0")).join("");
    dialog.querySelector("h2").textContent = form.dataset.zh;
    dialog.querySelector("[data-about]").textContent = card.dataset.title;
    held = card;
    dialog.showModal();
    const first = form.querySelector("select, input:not([type=hidden]), textarea");
    if (first) first.focus();
    return true;
  }

  dialog.addEventListener("click", (event) => { if (event.target.closest("[data-close]")) dialog.close(); });
  dialog.addEventListener("close", () => { if (held) held.focus(); held = null; });

  function choose(card, by) {
    const able = moves(card);
    const open = lanes.filter((lane) => able.has(lane.dataset.lane));
    if (!open.length) { say.textContent = "这张工单现在不能由您移动"; return; }
    const here = lanes.indexOf(card.closest("[data-lane]"));
    const from = target ? lanes.indexOf(target) : here;
    const next = by > 0 ? open.find((lane) => lanes.indexOf(lane) > from) : open.reverse().find((lane) => lanes.indexOf(lane) < from);
    const chosen = next || target;
    clear();
    offer(card);
    if (!chosen) { say.textContent = "这个方向没有可去的列"; return; }
    target = chosen;
    target.classList.add("target");
    say.textContent = `移到「${target.dataset.zh}」，按回车办理，Esc 取消`;
  }

  cards.forEach((card) => {
    card.tabIndex = 0;
    card.draggable = card.dataset.moves.trim() !== "";
    card.querySelectorAll("a").forEach((link) => { link.draggable = false; });
    card.addEventListener("dragstart", (event) => {
      held = card;
      event.dataTransfer.effectAllowed = "move";
      event.dataTransfer.setData("text/plain", card.dataset.id);
      offer(card);
    });
    card.addEventListener("dragend", () => { if (!dialog.open) held = null; clear(); });
    card.addEventListener("blur", () => { if (!dialog.open) clear(); });
    card.addEventListener("keydown", (event) => {
      if (event.target !== card || event.ctrlKey || event.metaKey || event.altKey) return;
      const list = [...card.parentElement.children];
      const at = list.indexOf(card);
      if (event.key === "ArrowRight" || event.key === "ArrowLeft") choose(card, event.key === "ArrowRight" ? 1 : -1);
      else if (event.key === "ArrowDown") (list[at + 1] || card).focus();
      else if (event.key === "ArrowUp") (list[at - 1] || card).focus();
      else if (event.key === "Escape") { clear(); say.textContent = ""; }
      else if (event.key === "Enter") {
        if (target) ask(card, moves(card).get(target.dataset.lane));
        else card.querySelector("a").click();
      } else return;
      event.preventDefault();
    });
    card.addEventListener("click", (event) => {
      const link = event.target.closest("[data-step]");
      if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey && ask(card, link.dataset.step)) event.preventDefault();
    });
  });

  lanes.forEach((lane) => {
    const step = () => held && moves(held).get(lane.dataset.lane);
    lane.addEventListener("dragover", (event) => {
      if (!step()) return;
      event.preventDefault();
      lanes.forEach((other) => other.classList.toggle("target", other === lane));
    });
    lane.addEventListener("drop", (event) => {
      if (!step()) return;
      event.preventDefault();
      ask(held, step());
    });
  });

  const back = location.hash.startsWith("#t-") && document.getElementById(location.hash.slice(1));
  if (back) back.focus();
})();
