// The cards panel. It asks this EHR, never the CDS service, and it asks once: when the
// chart opens and when the clinician presses Refresh. Nothing polls.
"use strict";

const panel = document.getElementById("cards");
const refresh = document.getElementById("refresh");
const prefetch = document.getElementById("prefetch");

async function post(url, body) {
  const answer = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(String(answer.status));
  return answer.json();
}

function say(text, kind) {
  const line = document.createElement("p");
  line.className = kind;
  line.textContent = text;
  panel.replaceChildren(line);
}

async function load() {
  refresh.hidden = false;
  refresh.disabled = true;
  say("Asking for decision support…", "waiting");
  try {
    const answer = await post(panel.dataset.url, { prefetch: prefetch.value });
    // Rendered by this EHR's own templates, where every text of a card is escaped.
    panel.innerHTML = answer.html;
    panel.dataset.state = "ready";
  } catch (error) {
    say("This EHR could not ask for decision support. This says nothing about the patient.", "notice");
    panel.dataset.state = "failed";
  }
  refresh.disabled = false;
}

async function report(card, said, done) {
  const line = card.querySelector(".said");
  try {
    const answer = await post(panel.dataset.feedback, {
      call: card.dataset.call,
      card: card.dataset.card,
      ...said,
    });
    const told = answer.status >= 200 && answer.status < 300;
    const extra = answer.done.length ? " " + answer.done.join(" ") : "";
    line.textContent = done + extra + (told ? "" : " The feedback could not be delivered.");
    card.classList.add("done");
  } catch (error) {
    line.textContent = "This could not be recorded.";
  }
}

panel.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-action=accept]");
  if (!button) return;
  button.disabled = true;
  report(
    button.closest(".card"),
    { action: "accept", suggestion: button.dataset.suggestion },
    "Accepted.",
  );
});

panel.addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.target;
  const reason = form.elements.reason ? form.elements.reason.value : "";
  report(
    form.closest(".card"),
    { action: "override", reason: reason, comment: form.elements.comment.value },
    "Dismissed.",
  );
});

refresh.addEventListener("click", load);
prefetch.addEventListener("change", load);
load();
