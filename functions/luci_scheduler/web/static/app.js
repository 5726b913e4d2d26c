// Keeps open pages up to date. Everything works without it; users then reload pages themselves.
"use strict";

(() => {
  const PERIOD = 2000;
  const SLOW = 15000;
  const SLOWEST = 60000;
  // The console itself answers or gives up sooner. Without a limit, one lost answer would end all refreshes.
  const LIMIT = 60000;
  const FRESH = 60000;
  // A double click sends a form once.
  document.addEventListener("submit", (event) => {
    const button = event.target.querySelector("button");
    if (event.target.method === "post" && button) setTimeout(() => (button.disabled = true));
  });

  if (!document.querySelector("[data-live]")) return;

  const isFinal = () => document.querySelector("[data-final]") !== null;
  // An open log is refreshed often. A list is refreshed often only just after an action.
  const isActive = () =>
    document.querySelector("[data-live-text]") !== null || (location.search.includes("done=") && performance.now() < FRESH);
  // Without changes, a list is refreshed less and less often.
  let pause = SLOW;

  // A region in use (an open form, the focus) is not replaced until a later refresh.
  const isBusy = (region) => region.contains(document.activeElement) || region.querySelector("details[open]") !== null;

  // Each load gives forms new keys. They are invisible, so they alone are no reason to replace a region.
  const seen = (region) => {
    const copy = region.cloneNode(true);
    for (const field of copy.querySelectorAll("input[type=hidden]")) field.remove();
    return copy;
  };

  // Returns how many regions were replaced, and how many have to wait.
  function renewRegions(fresh) {
    let [renewed, waiting] = [0, 0];
    for (const region of document.querySelectorAll("[data-live]")) {
      const other = fresh.getElementById(region.id);
      if (!other || seen(region).isEqualNode(seen(other))) continue;
      if (isBusy(region)) {
        waiting++;
        continue;
      }
      region.replaceWith(document.adoptNode(other));
      renewed++;
    }
    return { renewed, waiting };
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

  // The server answers 204 if the version that this page shows is still the present one.
  function present() {
    const url = new URL(location.href);
    const version = document.getElementById("main").dataset.version;
    if (version) url.searchParams.set("seen", version);
    return url;
  }

  async function renew() {
    if (document.hidden) return;
    const answer = await fetch(present(), {
      credentials: "same-origin",
      cache: "no-store",
      signal: AbortSignal.timeout(LIMIT),
    });
    pause = Math.min(2 * pause, SLOWEST);
    if (answer.status !== 200) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.title = fresh.title;
    renewLog(fresh);
    const { renewed, waiting } = renewRegions(fresh);
    if (renewed) pause = SLOW;
    // A page with a region that waits keeps its old version, so that the next refresh brings the region again.
    if (!waiting) document.getElementById("main").dataset.version = fresh.getElementById("main")?.dataset.version ?? "";
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
    }, isActive() ? PERIOD : pause);
  }

  // A page that was hidden is refreshed as soon as it is seen again.
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !isFinal()) renew().catch(() => {});
  });

  next();
})();
