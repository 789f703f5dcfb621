// Decide by keys: 1, 2, 3 and u press the button that says so, j and k go to the next and the last pair. Never while typing,
// except from the reason with Alt held.
"use strict";
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select");
  if (event.ctrlKey || event.metaKey || (typing && !event.altKey)) return;
  const found = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  if (!found) return;
  event.preventDefault();
  if (found.tagName === "BUTTON") {
    const reason = found.form.elements.reason;
    if (reason && !reason.value) { reason.focus(); reason.reportValidity(); return; }
  }
  found.click();
});
