
// The arrow keys go from token to token; a row is one stop of the Tab key.
const said = document.getElementById("said");
const steps = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10, Home: -Infinity, End: Infinity};
for (const row of document.querySelectorAll(".tokens")) {
  row.addEventListener("keydown", (event) => {
    if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
    const here = [...row.children].indexOf(document.activeElement);
    const there = Math.min(Math.max(here + steps[event.key], 0), row.children.length - 1);
    row.children[there].focus();
    event.preventDefault();
  });
  row.addEventListener("focusin", (event) => {
    for (const token of row.querySelectorAll('[tabindex="0"]')) token.tabIndex = -1;
    const token = event.target.closest(".t");
    token.tabIndex = 0;
    said.textContent = token.textContent + " – " + token.dataset.about;
  });
}
