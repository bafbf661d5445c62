"use strict";
// Replaces the page's parts as the miner sends them. Without this file the page is the same, but stands still.
(() => {
  const link = document.getElementById("link");
  const pause = document.getElementById("pause");
  let events = null;

  const say = (text, kind) => {
    if (link.textContent !== text) link.textContent = text;
    link.className = kind;
  };

  const listen = () => {
    events = new EventSource("/events");
    events.addEventListener("part", (event) => {
      const part = JSON.parse(event.data);
      const place = document.getElementById(part.id);
      // What the reader opened stays open.
      const open = [...place.querySelectorAll("details")].map((one) => one.open);
      if (place.contains(document.activeElement) && document.activeElement.tagName === "SUMMARY") return;
      place.innerHTML = part.html;
      place.querySelectorAll("details").forEach((one, at) => { one.open = Boolean(open[at]); });
    });
    events.addEventListener("tick", (event) => {
      const said = JSON.parse(event.data);
      say("Live", "on");
      if (document.title !== said.title) document.title = said.title;
    });
    events.onerror = () => {
      say("Connection lost, trying again", "off");
    };
  };

  pause.hidden = false;
  pause.addEventListener("click", () => {
    if (events) {
      events.close();
      events = null;
      say("Paused", "");
      pause.textContent = "Go on";
    } else {
      pause.textContent = "Pause";
      listen();
    }
  });
  listen();
})();
