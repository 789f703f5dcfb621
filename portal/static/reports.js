// Binding a county's workbook: choose a cell by click or Enter, choose an indicator, bind.
"use strict";
(() => {
  const by = (id) => document.getElementById(id);
  const bound = new Map();
  let chosen = null;
  const choose = (td) => {
    if (td.dataset.kind !== "blank") return;
    if (chosen) chosen.classList.remove("chosen");
    chosen = td;
    td.classList.add("chosen");
    by("cell").value = `${td.closest("table").dataset.sheet}!${td.dataset.cell}`;
  };
  document.querySelectorAll(".book").forEach((table) => {
    table.addEventListener("click", (event) => { const td = event.target.closest("td"); if (td) choose(td); });
    table.addEventListener("keydown", (event) => {
      if (event.key === "Enter") { event.preventDefault(); choose(event.target); by("indicator").focus(); }
    });
  });
  by("indicator").addEventListener("change", (event) => {
    by("span").value = event.target.selectedOptions[0].dataset.span;
  });
  by("span").value = by("indicator").selectedOptions[0].dataset.span;
  by("add").addEventListener("click", () => {
    if (!chosen) { by("told").textContent = "请先在表格中点选一个空白单元格。"; return; }
    const cell = by("cell").value, option = by("indicator").selectedOptions[0];
    const one = { cell, indicator: option.value, span: by("span").value };
    if (by("plus").value && by("plus").value !== cell) one.plus = by("plus").value;
    if (!bound.has(cell)) by("plus").append(new Option(cell, cell));
    bound.set(cell, one);
    chosen.classList.add("bound");
    chosen.textContent = option.textContent;
    by("cells").value = JSON.stringify([...bound.values()]);
    by("told").textContent = `已绑定 ${bound.size} 格。`;
  });
})();
