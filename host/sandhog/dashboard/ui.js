// What a script adds to pages that work without one: live updates, search as one types, keys, relative times.
// It makes no markup from text: what it shows was rendered by the host.
"use strict";
(() => {
  const main = document.getElementById("main");
  const $ = (id) => document.getElementById(id);
  const skew = Date.now() - Number(document.body.dataset.now);

  // Relative times go on while the page stands still.
  const length = (ms) => {
    const s = Math.floor(ms / 1000), m = Math.floor(s / 60), h = Math.floor(m / 60), d = Math.floor(h / 24);
    return d ? `${d} d ${h % 24} h` : h ? `${h} h ${m % 60} min` : m ? `${m} min` : `${s} s`;
  };
  const times = () => {
    const now = Date.now() - skew;
    for (const time of document.querySelectorAll("time[data-ms]")) {
      const ago = now - Number(time.dataset.ms);
      time.textContent = ago < 0 ? `in ${length(-ago)}` : ago < 2000 ? "just now" : `${length(ago)} ago`;
    }
  };
  setInterval(times, 5000);

  // A part of the page is replaced when the host renders it otherwise, unless somebody works in it.
  const busy = (part) => part.contains(document.activeElement) && document.activeElement.matches("input, textarea, select, summary")
    || part.querySelector("input:checked[name=id]") !== null;
  const opened = (part) => [...part.querySelectorAll("details[open][id]")].map((one) => one.id);
  const swap = (html, force) => {
    const fresh = new DOMParser().parseFromString(html, "text/html");
    for (const part of fresh.querySelectorAll("[data-part][id]")) {
      const old = $(part.id);
      if (!old || old.outerHTML === part.outerHTML || (!force && busy(old))) continue;
      const open = opened(old), focus = document.activeElement, at = old.querySelector("tr.at a[href]")?.getAttribute("href");
      const href = old.contains(focus) ? focus.getAttribute("href") : null;
      const taken = document.importNode(part, true);
      old.replaceWith(taken);
      for (const id of open) { const one = $(id); if (one) one.open = true; }
      for (const link of taken.querySelectorAll("a[href]")) {
        if (at && link.getAttribute("href") === at) link.closest("tr")?.classList.add("at");
        if (href && link.getAttribute("href") === href) { link.focus({ preventScroll: true }); break; }
      }
    }
    times();
  };

  // One stream of the page, as the host renders it.
  const button = $("live");
  let stream = null;
  const say = (text, lost) => { button.textContent = text; button.classList.toggle("lost", lost); };
  const stop = () => { stream?.close(); stream = null; };
  const begin = () => {
    stop();
    stream = new EventSource("/ui/live?page=" + encodeURIComponent(location.pathname + location.search));
    stream.addEventListener("open", () => say("Live", false));
    stream.addEventListener("page", (event) => { say("Live", false); swap(event.data, false); });
    stream.addEventListener("end", () => { stop(); location.reload(); });
    stream.addEventListener("error", () => {
      say("Waiting for the host", true);
      if (stream && stream.readyState === EventSource.CLOSED) say("Not live", true);
    });
  };
  const toggle = () => {
    if (!button || button.hidden) return;
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    if (on) begin(); else { stop(); say("Paused", false); }
    try { sessionStorage.setItem("paused", on ? "" : "1"); } catch { /* a browser without storage begins live */ }
  };
  if (button && document.body.dataset.live !== undefined) {
    button.hidden = false;
    let paused = false;
    try { paused = sessionStorage.getItem("paused") === "1"; } catch { /* as above */ }
    if (paused) { button.setAttribute("aria-pressed", "false"); say("Paused", false); } else begin();
    button.addEventListener("click", toggle);
    document.addEventListener("visibilitychange", () => {
      if (button.getAttribute("aria-pressed") !== "true") return;
      if (document.hidden) stop(); else begin();
    });
    addEventListener("pagehide", stop);
  }

  // Search as one types.
  let turn = 0, timer = 0, asking = null;
  const search = async (form) => {
    const mine = ++turn;
    const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value !== ""));
    const target = form.getAttribute("action") + (query.size ? "?" + query : "");
    // The host searches no more for what nobody waits for.
    asking?.abort();
    asking = new AbortController();
    const answer = await fetch(target, { headers: { accept: "text/html" }, signal: asking.signal }).catch(() => null);
    if (!answer || mine !== turn) return;
    const field = form.querySelector("input[type=search]");
    const html = await answer.text().catch(() => "");
    if (mine !== turn) return;
    field?.setAttribute("aria-invalid", String(!answer.ok));
    const why = form.querySelector("[data-why]");
    if (why) why.textContent = answer.ok ? "" : new DOMParser().parseFromString(html, "text/html").querySelector("[role=alert]")?.textContent ?? "";
    if (!answer.ok || mine !== turn) return;
    history.replaceState(null, "", target);
    swap(html, true);
    if (stream) begin();
  };
  for (const form of document.querySelectorAll("form[data-search]")) {
    form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(search, 250, form); });
  }

  // All boxes of a table at once.
  document.addEventListener("change", (event) => {
    if (!event.target.matches("input[data-all]")) return;
    for (const box of document.querySelectorAll("input[name=id]")) box.checked = event.target.checked;
  });

  // A file that is dropped anywhere on its form is checked at once; one that is too large is not sent at all.
  for (const form of document.querySelectorAll("form[data-drop]")) {
    const field = form.querySelector("input[type=file]"), most = Number(form.dataset.drop);
    const over = (on) => (event) => { event.preventDefault(); form.classList.toggle("over", on); };
    const look = () => {
      const large = [...field.files].some((file) => file.size > most);
      field.setCustomValidity(large ? `The file has more than ${most} bytes, the most that a component may have.` : "");
    };
    field.addEventListener("change", look);
    form.addEventListener("dragover", over(true));
    form.addEventListener("dragleave", over(false));
    form.addEventListener("drop", (event) => {
      over(false)(event);
      if (event.dataTransfer.files.length !== 1) return;
      field.files = event.dataTransfer.files;
      look();
      form.requestSubmit();
    });
    // Whoever waits for a long check sees that it goes on, and sends it once.
    form.addEventListener("submit", () => { const one = form.querySelector("button"); one.disabled = true; one.textContent = "Checking …"; });
    addEventListener("pageshow", () => { const one = form.querySelector("button"); one.disabled = false; one.textContent = "Check"; });
  }

  // Keys.
  const help = $("help");
  const openHelp = () => { if (!help.open) help.showModal(); };
  const keys = $("keys");
  if (keys) { keys.hidden = false; keys.addEventListener("click", openHelp); }
  const step = (by) => {
    const rows = [...main.querySelectorAll("tr[data-row]")];
    if (!rows.length) return;
    const at = rows.findIndex((row) => row.classList.contains("at"));
    const next = rows[Math.min(Math.max(at + by, 0), rows.length - 1)];
    for (const row of rows) row.classList.toggle("at", row === next);
    next.querySelector("a[href]")?.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  };
  let first = "";
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const field = event.target.matches("input:not([type=checkbox]), textarea, select");
    if (event.key === "Escape" && field) { event.target.blur(); return; }
    if (field || help.open) return;
    const before = first;
    first = event.key === "g" ? "g" : "";
    const act = {
      "?": openHelp, "/": () => (document.querySelector("form[data-search] input[type=search]") ?? document.querySelector("input[type=search]"))?.focus(),
      j: () => step(1), k: () => step(-1), p: toggle,
      u: () => { const up = main.querySelector(".crumbs a:last-of-type"); if (up) location.href = up.href; },
      o: () => { if (before === "g") location.href = "/ui"; },
    }[event.key];
    if (act) { event.preventDefault(); act(); }
  });
})();
