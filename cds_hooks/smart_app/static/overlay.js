"use strict";
// The one script of the page: how strongly the heat map is drawn over the film.
const overlay = document.getElementById("overlay");
const strength = document.getElementById("strength");
if (overlay && strength) {
  strength.addEventListener("input", () => {
    overlay.style.opacity = String(strength.value / 100);
  });
}
