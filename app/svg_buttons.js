// SPDX-License-Identifier: Apache-2.0
// Puts "Download as SVG" beside Streamlit's "Download as PNG" in the toolbar of every chart that is drawn as SVG.

const CHART = '[data-testid="stVegaLiteChart"] svg';
const LABEL = "Download as SVG";

function nameOf(chart) {
  const keyed = chart.closest('[class*="st-key-"]');
  const key = keyed && [...keyed.classList].find((name) => name.startsWith("st-key-"));
  return (key || "st-key-figure").slice("st-key-".length);
}

function asFile(chart) {
  const copy = chart.cloneNode(true);
  const look = getComputedStyle(document.querySelector('[data-testid="stApp"]'));
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.style.backgroundColor = look.backgroundColor;
  copy.querySelectorAll(".cells_marks").forEach((cells) => cells.setAttribute("shape-rendering", "crispEdges"));
  return new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" });
}

function download(chart) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(asFile(chart));
  link.download = `${nameOf(chart)}.svg`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function addButton(png) {
  const frame = png.closest('[data-testid="stFullScreenFrame"]');
  const bar = png.closest('[data-testid="stElementToolbarButtonContainer"]');
  if (!frame?.querySelector(CHART) || bar.querySelector(`[aria-label="${LABEL}"]`)) return;
  const button = document.createElement("button");
  button.type = "button";
  button.className = `${png.className} svg-button`;
  button.setAttribute("aria-label", LABEL);
  button.title = LABEL;
  button.textContent = "SVG";
  button.addEventListener("click", () => download(frame.querySelector(CHART)));
  png.closest('[data-testid="stElementToolbarButton"]').after(button);
}

export default function () {
  const addAll = () => document.querySelectorAll('button[aria-label^="Download as PNG"]').forEach(addButton);
  const observer = new MutationObserver(addAll);
  observer.observe(document.body, { childList: true, subtree: true });
  addAll();
  return () => observer.disconnect();
}
