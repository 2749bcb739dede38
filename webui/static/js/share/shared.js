// The page of a read-only link: the server has written the answers as plain text, which becomes formatted here.

import { renderMarkdown } from "../chat/markdown/blocks.js";
import { answerText } from "../chat/turns/thoughts.js";

for (const text of document.querySelectorAll("[data-markdown]")) {
  const source = answerText({ text: text.textContent ?? "" });
  text.replaceChildren();
  text.classList.remove("plain");
  renderMarkdown(text, source);
}

for (const time of document.querySelectorAll("time")) {
  const day = new Date(`${time.dateTime}T12:00:00`);
  time.textContent = day.toLocaleDateString(document.documentElement.lang, { dateStyle: "long" });
}
