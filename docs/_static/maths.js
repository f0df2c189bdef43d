// Renders what _extensions/maths.py marks. KaTeX comes from the site's own folder.
document.addEventListener("DOMContentLoaded", () => {
  const macros = {};
  for (const node of document.querySelectorAll("[data-tex]")) {
    katex.render(node.textContent, node, { displayMode: node.dataset.tex === "block", throwOnError: false, macros });
  }
});
