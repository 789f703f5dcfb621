// What every page does: tell of urgent items until somebody takes them, count what waits in the title, keys for lists.
"use strict";
(() => {
  const every = 20000;
  const told = new Set();
  const title = document.title.replace(/^\(\d+\) /, "");
  const dialog = document.getElementById("calls");
  const token = document.querySelector('meta[name="csrf-token"]');
  if (token) {
    document.body.addEventListener("htmx:configRequest", (event) => {
      event.detail.headers["X-CSRF-Token"] = token.content;
    });
  }

  // two short tones; a browser lets a page sound only after somebody has used it, then this stays silent
  function sound() {
    try {
      const context = new AudioContext();
      [0, 0.35].forEach((at) => {
        const tone = context.createOscillator();
        const volume = context.createGain();
        volume.gain.value = 0.15;
        tone.frequency.value = 880;
        tone.connect(volume).connect(context.destination);
        tone.start(context.currentTime + at);
        tone.stop(context.currentTime + at + 0.2);
      });
    } catch (_) { /* no sound device: the dialog is there */ }
  }

  function row(call) {
    const line = document.createElement("li");
    const link = document.createElement("a");
    link.href = call.href || `/work/${encodeURIComponent(call.item_id)}`;
    link.textContent = call.kind_zh;
    const state = document.createElement("span");
    state.textContent = `${call.state_zh}${call.minutes === null ? "" : call.minutes < 0 ? ` · 超时 ${-call.minutes} 分钟` : ` · 剩 ${call.minutes} 分钟`}`;
    line.append(link, state);
    return line;
  }

  async function look() {
    let answer;
    try {
      answer = await fetch(dialog.dataset.calls, { headers: { accept: "application/json" } });
    } catch (_) { return; }
    if (!answer.ok || answer.redirected) return;
    const { waiting, calls } = await answer.json();
    document.title = waiting ? `(${waiting}) ${title}` : title;
    dialog.querySelector("ul").replaceChildren(...calls.map(row));
    const fresh = calls.filter((c) => !told.has(c.item_id));
    fresh.forEach((c) => told.add(c.item_id));
    if (fresh.length && !/^\/(work\/|glass)/.test(location.pathname)) { if (!dialog.open) dialog.showModal(); sound(); }
    if (!calls.length && dialog.open) dialog.close();
  }
  if (dialog) { look(); setInterval(look, every); dialog.querySelector("button").addEventListener("click", () => dialog.close()); }

  // an open menu closes by a click beside it, by Escape (the focus goes back to its title) and when another opens
  const menus = [...document.querySelectorAll(".menubar details, .burger")];
  document.addEventListener("click", (event) => menus.forEach((m) => { if (!m.contains(event.target)) m.open = false; }));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    menus.filter((m) => m.open).forEach((m) => { m.open = false; m.querySelector("summary").focus(); });
  });

  // j and k go through the lines of a list, / to the search box
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input, textarea, select, dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") {
      const box = document.querySelector('input[type="search"], .search input');
      if (box) { event.preventDefault(); box.focus(); }
    }
    if (event.key !== "j" && event.key !== "k") return;
    const links = [...document.querySelectorAll("tbody th a")];
    const at = links.indexOf(document.activeElement);
    const next = links[event.key === "j" ? at + 1 : at - 1] || links[0];
    if (next) next.focus();
  });
})();
