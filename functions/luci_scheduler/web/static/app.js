// Keeps open pages up to date. Everything works without it; users then reload pages themselves.
"use strict";

(() => {
  const PERIOD = 2000;
  const SLOW = 15000;
  const FRESH = 60000;
  // A double click sends a form once.
  document.addEventListener("submit", (event) => {
    const button = event.target.querySelector("button");
    if (event.target.method === "post" && button) setTimeout(() => (button.disabled = true));
  });

  if (!document.querySelector("[data-live]")) return;

  const isFinal = () => document.querySelector("[data-final]") !== null;
  // An open log is refreshed often. A list costs hundreds of reads, so it is refreshed often only just after an action.
  const isActive = () =>
    document.querySelector("[data-live-text]") !== null || (location.search.includes("done=") && performance.now() < FRESH);

  // A region in use (an open form, the focus) is not replaced until a later refresh.
  const isBusy = (region) => region.contains(document.activeElement) || region.querySelector("details[open]") !== null;

  // Each load gives forms new keys. They are invisible, so they alone are no reason to replace a region.
  const seen = (region) => {
    const copy = region.cloneNode(true);
    for (const field of copy.querySelectorAll("input[type=hidden]")) field.remove();
    return copy;
  };

  function renewRegions(fresh) {
    for (const region of document.querySelectorAll("[data-live]")) {
      const other = fresh.getElementById(region.id);
      if (!other || isBusy(region) || seen(region).isEqualNode(seen(other))) continue;
      region.replaceWith(document.adoptNode(other));
    }
  }

  // Only new text is appended to a log, so screen readers announce only that, and a selection stays.
  function renewLog(fresh) {
    const log = document.querySelector("[data-live-text]");
    const other = log && fresh.getElementById(log.id);
    if (!other) return;
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    const before = log.textContent;
    const after = other.textContent;
    if (after === before) return;
    if (after.startsWith(before)) log.append(after.slice(before.length));
    else log.textContent = after;
    if (atEnd) log.scrollTop = log.scrollHeight;
  }

  async function renew() {
    if (document.hidden) return;
    const answer = await fetch(location.href, { credentials: "same-origin", cache: "no-store" });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    renewLog(fresh);
    renewRegions(fresh);
  }

  function next() {
    if (isFinal()) return;
    setTimeout(async () => {
      try {
        await renew();
      } catch {
        // The next refresh tries again.
      }
      next();
    }, isActive() ? PERIOD : SLOW);
  }

  next();
})();
