// The map of the features: what lies nearest to the pointer, or next by the arrow keys.
const plane = document.getElementById("plane");
if (plane) {
  const { classes, points, columns, span } = JSON.parse(document.getElementById("points").textContent);
  const told = document.getElementById("told"), here = document.getElementById("here");
  const tile = document.querySelector(".tile"), sheet = tile.querySelector("img");
  const dots = [...plane.querySelectorAll(".dots")];
  let at = -1;
  const tell = (number) => {
    const [x, y, label, taken, path] = points[at = number];
    here.setAttribute("cx", x);
    here.setAttribute("cy", y);
    here.setAttribute("r", 16);
    const side = tile.clientWidth;
    sheet.hidden = false;
    sheet.style.width = columns * side + "px";
    sheet.style.left = -(number % columns) * side + "px";
    sheet.style.top = -Math.floor(number / columns) * side + "px";
    told.textContent = classes[label] + (taken < 0 ? "" : ", taken for " + classes[taken]) + ": " + path;
    plane.classList.add("one");
    for (const each of dots) each.classList.toggle("faded", each.dataset.label !== String(label));
  };
  const nearest = (event) => {
    const box = plane.getBoundingClientRect(), scale = box.width / plane.viewBox.baseVal.width;
    const x = (event.clientX - box.left) / scale - 30, y = (event.clientY - box.top) / scale - 30;
    let best = -1, least = (span / 20) ** 2;
    points.forEach((point, number) => {
      const far = (point[0] - x) ** 2 + (point[1] - y) ** 2;
      if (far < least) [best, least] = [number, far];
    });
    if (best >= 0) tell(best);
  };
  plane.addEventListener("pointermove", nearest);
  plane.addEventListener("click", nearest);
  plane.addEventListener("pointerleave", () => {
    plane.classList.remove("one");
    for (const each of dots) each.classList.remove("faded");
  });
  plane.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    tell((at + step + points.length) % points.length);
  });
}
