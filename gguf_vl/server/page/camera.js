/** A picture from the camera. Where the browser lets a page use it the page shows it; elsewhere the system's own camera. */

import { decision } from "./dialogs.js";
import { byId, h, say } from "./dom.js";
import { note } from "./log.js";

const QUALITY = 0.92;

/** Take a picture; null where none was taken. */
export async function take() {
  const stream = await opened("environment");
  return stream ? taken(stream) : chosen();
}

async function opened(facingMode) {
  try {
    return await navigator.mediaDevices.getUserMedia({ video: { facingMode, width: { ideal: 1920 }, height: { ideal: 1920 } } });
  } catch (error) {
    note("info", `The page cannot use the camera itself: ${error.message}`); // not over TLS, not allowed, or none there
    return null;
  }
}

function chosen() {
  const input = byId("camera-file");
  return new Promise((resolve) => {
    input.onchange = () => resolve(input.files[0] ?? null);
    input.oncancel = () => resolve(null);
    input.value = "";
    input.click();
  });
}

function taken(stream) {
  return new Promise((resolve) => {
    const video = h("video", { autoplay: true, playsinline: true, muted: true });
    video.muted = true;
    video.srcObject = stream;
    const form = h("form", null, video, decision("Take picture", () => dialog.close("")));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      dialog.close("taken");
    });
    const dialog = h("dialog", { class: "camera", "aria-label": "Camera" }, form);
    dialog.addEventListener("close", async () => {
      const picture = dialog.returnValue === "taken" ? await still(video) : null;
      stream.getTracks().forEach((track) => track.stop());
      dialog.remove();
      resolve(picture);
    });
    document.body.append(dialog);
    dialog.showModal();
    form.querySelector(".primary").focus();
    say("The camera is on");
  });
}

async function still(video) {
  const canvas = h("canvas", { width: video.videoWidth, height: video.videoHeight });
  if (!video.videoWidth) return null;
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
  return blob && new File([blob], "camera.jpg", { type: blob.type });
}
