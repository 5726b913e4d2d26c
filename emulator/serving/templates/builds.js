// Keeps the pages of builds up to date. Without it, a reload does the same.
"use strict";

const PAUSE = 700;
const LIMIT = 60000; // milliseconds until a request without an answer is given up
const LONGEST = 400000; // characters of output on a page

/** Replace the part of the page that shows the state, if it has changed. */
async function refresh() {
  const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(LIMIT) });
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const now = document.getElementById("live");
  const next = page.getElementById("live");
  if (!now || !next) return;
  document.title = page.title;
  const hasFocus = now.contains(document.activeElement);
  if (!hasFocus && now.innerHTML !== next.innerHTML) now.replaceWith(document.adoptNode(next));
  if (document.getElementById("waiting") && page.getElementById("output")) location.reload();
}

/** Append the new output of a build that runs, and return whether more may follow. */
async function follow(output) {
  const url = `${output.dataset.log}?from=${output.dataset.next}`;
  const answer = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(LIMIT) });
  if (!answer.ok) return true;
  const text = await answer.text();
  output.dataset.next = answer.headers.get("X-Next") ?? output.dataset.next;
  if (text) output.append(text);
  if (output.textContent.length > LONGEST) output.textContent = output.textContent.slice(-LONGEST / 2);
  return answer.headers.get("X-Ended") !== "true";
}

/** Repeat an action until it returns false; a server that does not answer is asked again. */
function repeat(action, pause) {
  setTimeout(async () => {
    let more = true;
    if (!document.hidden) more = await action().catch(() => true);
    if (more !== false) repeat(action, pause);
  }, pause);
}

const live = document.getElementById("live");
if (live?.dataset.every) {
  repeat(async () => {
    await refresh();
    return Boolean(document.getElementById("live")?.dataset.every);
  }, Number(live.dataset.every));
}
const output = document.getElementById("output");
if (output?.dataset.grows) repeat(() => follow(output), PAUSE);
