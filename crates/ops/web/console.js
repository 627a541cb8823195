// Functions that need JavaScript: pausing the refreshes, updating ages, and keeping the scroll
// position after an action. Everything else works without this file.

const live = document.getElementById("live");
const pause = document.getElementById("pause");
const state = document.getElementById("state");

// Signals that arrived during the pause. Each topic counts once.
const missed = new Set();
let paused = sessionStorage.getItem("paused") === "yes";
let connected = true;

function show() {
    if (!pause) return;
    const text = paused ? "Paused" : connected ? "Live" : "Reconnecting";
    if (state.textContent !== text) state.textContent = text;
    pause.setAttribute("aria-pressed", String(paused));
    pause.title = paused ? "Refresh this page again" : "Stop refreshing this page";
    pause.dataset.state = paused ? "paused" : connected ? "live" : "lost";
}

pause?.addEventListener("click", () => {
    paused = !paused;
    sessionStorage.setItem("paused", paused ? "yes" : "no");
    show();
    if (paused) return;
    const topics = [...missed];
    missed.clear();
    topics.forEach((topic) => htmx.trigger(live, topic));
});

live?.addEventListener("htmx:sse:before:message", (event) => {
    if (!paused) return;
    missed.add(event.detail.message.event);
    event.preventDefault();
});
// A hidden tab has no stream, because a browser opens six connections to a host, and each stream
// takes one. The extension closes the stream of a tab that becomes hidden, and opens it again when
// the tab is shown. This handles a tab that is opened in the background.
for (const name of ["htmx:before:request", "htmx:sse:before:connection"]) {
    live?.addEventListener(name, (event) => {
        if (document.hidden && event.target === live) event.preventDefault();
    });
}
// Elements that poll every second, such as a running replay, are paused too.
document.addEventListener("htmx:before:request", (event) => {
    if (paused && event.target.hasAttribute?.("data-polls")) event.preventDefault();
});
live?.addEventListener("htmx:sse:after:connection", () => { connected = true; show(); });
for (const name of ["htmx:sse:error", "htmx:error", "htmx:response:error"]) {
    live?.addEventListener(name, ({ detail }) => {
        connected = false;
        show();
        // The session has ended. The page redirects to the sign-in, which leads back to it.
        if ((detail.status ?? detail.ctx?.response?.status) === 401 && !paused) location.reload();
    });
}
live?.addEventListener("htmx:sse:before:connection", (event) => {
    if (event.detail.connection.attempt > 0) { connected = false; show(); }
});
show();

// Formats ages like the server.
function age(at) {
    const seconds = Math.floor((Date.now() - at) / 1000);
    if (seconds < 1) return "just now";
    if (seconds < 120) return `${seconds} s ago`;
    if (seconds < 7200) return `${Math.floor(seconds / 60)} min ago`;
    if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ago`;
    return `${Math.floor(seconds / 86400)} d ago`;
}

setInterval(() => {
    if (paused) return;
    for (const time of document.querySelectorAll("time[data-age]")) {
        const at = Date.parse(time.dateTime);
        if (Number.isNaN(at)) continue;
        const text = age(at);
        if (time.textContent !== text) time.textContent = text;
    }
}, 5000);

// An action redirects to its page. The scroll position is restored there.
const place = "scroll " + location.pathname;
document.addEventListener("submit", (event) => {
    if (event.target.method === "post") sessionStorage.setItem(place, String(scrollY));
});
const before = sessionStorage.getItem(place);
if (before !== null) {
    sessionStorage.removeItem(place);
    scrollTo(0, Number(before));
}

// A checkbox in a table's head selects all rows of its form that can be selected. The selected rows
// are counted.
const boxesOf = (form) => [...form.querySelectorAll("tbody input[type=checkbox]:not(:disabled)")];
function count(form) {
    const boxes = boxesOf(form);
    const selected = boxes.filter((box) => box.checked).length;
    for (const shown of form.querySelectorAll("[data-selected]")) shown.textContent = String(selected);
    for (const button of form.querySelectorAll("[data-needs-selection]")) button.disabled = selected === 0;
    const all = form.querySelector("thead input[type=checkbox]");
    if (all) {
        all.checked = boxes.length > 0 && selected === boxes.length;
        all.indeterminate = selected > 0 && selected < boxes.length;
    }
}
document.addEventListener("change", ({ target }) => {
    if (target.type !== "checkbox" || !target.form) return;
    if (target.closest("thead")) {
        for (const box of boxesOf(target.form)) box.checked = target.checked;
    }
    count(target.form);
});
const countAll = () => document.querySelectorAll("form[data-selection]").forEach(count);
document.addEventListener("htmx:after:swap", countAll);
countAll();

// Copying is available only if the browser allows it: `navigator.clipboard` is missing over plain
// HTTP.
if (navigator.clipboard) {
    for (const button of document.querySelectorAll("button[data-copy]")) button.hidden = false;
    document.addEventListener("click", ({ target }) => {
        const button = target.closest?.("button[data-copy]");
        if (button) navigator.clipboard.writeText(button.dataset.copy);
    });
}

// Elements that change by themselves are refreshed every few seconds, unless the tab is hidden.
const polled = new WeakMap();
setInterval(() => {
    if (paused || document.hidden) return;
    for (const element of document.querySelectorAll("[data-poll]")) {
        const seconds = (polled.get(element) ?? 0) + 1;
        const isDue = seconds >= Number(element.dataset.poll);
        polled.set(element, isDue ? 0 : seconds);
        if (isDue) htmx.trigger(element, "poll");
    }
}, 1000);
