// Adds new entries of the feed to the open page. Without it, users reload the page.
"use strict";

(() => {
  const LIMIT = 60000; // more than twice the longest wait of the server for news
  const SHOWN = 60;
  const AGAIN = 2000;
  const feed = document.getElementById("feed");
  let last = Number(feed.dataset.last);

  function show(rows) {
    const fresh = new DOMParser().parseFromString(rows, "text/html").querySelectorAll("li");
    if (fresh.length === 0) return;
    feed.prepend(...fresh);
    while (feed.children.length > SHOWN) feed.lastElementChild.remove();
    document.getElementById("nothing")?.remove();
  }

  async function follow() {
    for (;;) {
      try {
        const answer = await fetch(`/feed?after=${last}`, { cache: "no-store", signal: AbortSignal.timeout(LIMIT) });
        if (!answer.ok) throw new Error(answer.statusText);
        const news = await answer.json();
        last = news.last;
        show(news.rows);
      } catch {
        await new Promise((resolve) => setTimeout(resolve, AGAIN));
      }
    }
  }

  follow();
})();
