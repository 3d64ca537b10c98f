/* What the pages of lovely.remotetask do more where script runs: they stay fresh
   while they are seen, times are those of this machine, boxes are ticked at once.
   Nothing needs it. */
(function () {
  "use strict";
  const SECONDS = 3;
  const all = (selector, place) => Array.from((place || document).querySelectorAll(selector));
  const language = document.documentElement.lang || undefined;

  /* -- times: the server knows no zone of this machine */
  const long = new Intl.DateTimeFormat(language, { dateStyle: "full", timeStyle: "long" });
  const medium = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" });
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;

  function localTimes(place) {
    for (const element of all("time[datetime]", place)) {
      const moment = new Date(element.dateTime);
      if (!isNaN(moment)) {
        element.textContent = medium.format(moment);
        element.title = long.format(moment);
      }
    }
    for (const element of all("[data-zone]", place)) {
      if (zone) { element.textContent = zone; }
    }
  }

  /* -- boxes: <input type="checkbox" data-all="ids"> ticks all of that name */
  function boxes(name) { return all('input[type="checkbox"][name="' + name + '"]'); }

  function showTicked() {
    for (const head of all("input[data-all]")) {
      const each = boxes(head.dataset.all);
      const ticked = each.filter((box) => box.checked).length;
      head.checked = ticked > 0 && ticked === each.length;
      head.indeterminate = ticked > 0 && ticked < each.length;
    }
    for (const place of all("[data-ticked]")) {
      place.textContent = boxes(place.dataset.ticked).filter((box) => box.checked).length;
    }
  }
  document.addEventListener("change", function (event) {
    const head = event.target;
    if (head.matches("input[data-all]")) {
      boxes(head.dataset.all).forEach(function (box) { box.checked = head.checked; });
    }
    if (head.matches("select[data-send]")) { head.form.requestSubmit(); }
    showTicked();
  });

  /* -- fresh parts: [data-live] elements are replaced by those of the page as it is
     now; what somebody has ticked, opened or is about to press stays as it is */
  let paused = false, timer = null, busy = false;

  function wanted() { return !paused && !document.hidden && all("[data-live]").length > 0; }

  function plan() {
    clearTimeout(timer);
    if (wanted()) { timer = setTimeout(refresh, SECONDS * 1000); }
  }

  async function refresh() {
    if (busy || !wanted()) { return; }
    busy = true;
    try {
      const answer = await fetch(location.href, {
        headers: { "X-Remotetask-Live": "1" }, credentials: "same-origin", cache: "no-store" });
      if (answer.ok) {
        const text = await answer.text();
        renew(new DOMParser().parseFromString(text, "text/html"));
        document.documentElement.removeAttribute("data-stale");
      } else {
        document.documentElement.setAttribute("data-stale", "");
      }
    } catch (error) {
      document.documentElement.setAttribute("data-stale", "");
    }
    busy = false;
    plan();
  }

  function typing(part) {
    const active = document.activeElement;
    return active && part.contains(active) &&
      active.matches('input:not([type="checkbox"]), select, textarea');
  }

  function renew(page) {
    for (const part of all("[data-live]")) {
      const fresh = page.getElementById(part.id);
      if (fresh && !part.matches(":active") && !part.querySelector(":active") && !typing(part)) {
        keep(part, fresh);
        localTimes(fresh);
        if (fresh.innerHTML !== part.innerHTML) { swap(part, fresh); }
        part.toggleAttribute("data-live", fresh.hasAttribute("data-live"));
      }
    }
    showTicked();
  }

  function keep(part, fresh) {
    const ticked = new Set(all('input[type="checkbox"]:checked', part).map((box) => box.value));
    for (const box of all('input[type="checkbox"]', fresh)) {
      if (ticked.has(box.value)) { box.checked = true; box.setAttribute("checked", ""); }
    }
    for (const box of all('input[type="checkbox"]', part)) {
      box.toggleAttribute("checked", box.checked);
    }
    const open = new Set(all("details[open][id]", part).map((element) => element.id));
    for (const element of all("details[id]", fresh)) {
      element.open = open.has(element.id) || element.open;
    }
  }

  function swap(part, fresh) {
    const active = document.activeElement;
    const mark = active && part.contains(active) &&
      (active.id ? "#" + CSS.escape(active.id)
        : active.name && active.value ? active.localName + '[name="' + CSS.escape(active.name) +
          '"][value="' + CSS.escape(active.value) + '"]'
        : active.localName === "a" ? 'a[href="' + CSS.escape(active.getAttribute("href")) + '"]'
        : null);
    part.replaceChildren(...document.importNode(fresh, true).childNodes);
    const again = mark && part.querySelector(mark);
    if (again) { again.focus({ preventScroll: true }); }
  }

  /* -- steps of long work: <form data-next> sends itself */
  function onward() {
    for (const form of all("form[data-next]")) {
      setTimeout(function () { form.requestSubmit(); }, 50);
    }
  }

  document.addEventListener("visibilitychange", function () {
    if (document.hidden) { clearTimeout(timer); } else { refresh(); }
  });
  for (const button of all("button[data-pause]")) {
    button.hidden = false;
    button.addEventListener("click", function () {
      paused = !paused;
      button.setAttribute("aria-pressed", String(!paused));
      plan();
    });
  }
  document.documentElement.classList.add("script");
  localTimes();
  showTicked();
  onward();
  plan();
})();
