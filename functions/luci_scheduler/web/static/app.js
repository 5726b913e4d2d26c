// What pages do by themselves while they are open. Everything works without it: pages are reloaded by hand then.
"use strict";

(() => {
  const PERIOD = 2000;
  const SLOW = 15000;
  const FRESH = 60000;
  // Somebody who presses a button twice means it once.
  document.addEventListener("submit", (event) => {
    const button = event.target.querySelector("button");
    if (event.target.method === "post" && button) setTimeout(() => (button.disabled = true));
  });

  if (!document.querySelector("[data-live]")) return;

  const isFinal = () => document.querySelector("[data-final]") !== null;
  // The log of one invocation is followed closely; lists cost hundreds of reads, and are so only just behind an action.
  const isActive = () =>
    document.querySelector("[data-live-text]") !== null || (location.search.includes("done=") && performance.now() < FRESH);

  // A region in which somebody works (an open form, the focus) is left alone until the next time.
  const isBusy = (region) => region.contains(document.activeElement) || region.querySelector("details[open]") !== null;

  // Each loading gives forms new keys: nothing that anybody sees, so no reason to renew what a screen reader may be in.
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

  // Of a log only what is new is added, so that a screen reader reads that alone and a selection stays.
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
        // The network comes back or it does not: the next round shows.
      }
      next();
    }, isActive() ? PERIOD : SLOW);
  }

  next();
})();
