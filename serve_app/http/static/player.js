// A video, opened at a moment. Knows a result with its moments; knows nothing of searching.

const at = (id) => document.getElementById(id);

export function clock(seconds) {
  const whole = Math.floor(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, String(whole % 60).padStart(2, "0")];
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

export function open(result, moment) {
  const player = at("player");
  const video = at("video");
  at("video-title").textContent = result.text ?? result.video_id;
  at("video-error").hidden = true;
  at("video-link").href = moment.content_url;
  const moments = result.moments.length ? result.moments : [moment];
  at("moments").replaceChildren(...[...moments].sort((one, other) => one.offset_s - other.offset_s).map((each) => {
    const [item, button, image, time] = ["li", "button", "img", "span"].map((name) => document.createElement(name));
    button.type = "button";
    image.src = each.thumbnail_url;
    image.alt = "";
    time.textContent = clock(each.offset_s);
    button.setAttribute("aria-label", `Play from ${time.textContent}`);
    button.addEventListener("click", () => {
      at("video-link").href = each.content_url;
      video.currentTime = each.offset_s;
      play(video);
    });
    button.append(image, time);
    item.append(button);
    return item;
  }));
  video.poster = moment.thumbnail_url;
  video.src = moment.content_url;
  player.showModal();
  play(video);
}

function play(video) {
  // A browser may want a click of its own before there is sound; the controls are there.
  video.play().catch(() => {});
}

at("video").addEventListener("error", () => {
  if (at("video").hasAttribute("src")) at("video-error").hidden = false;
});
at("player").addEventListener("close", () => {
  at("video").pause();
  at("video").removeAttribute("src");
  at("video").load();
});
at("player").addEventListener("click", (event) => {
  if (event.target === at("player")) at("player").close(); // beside it
});
at("video-close").addEventListener("click", () => at("player").close());
