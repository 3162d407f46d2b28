// Sets the chosen theme before the first paint, so that nothing flashes. A classic script in the
// head on purpose: modules run only after the page was read. The rest is in theme.js.
(function () {
  try {
    var theme = localStorage.getItem("portcullis.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch (_storage_is_off) {
    // The system's preference holds.
  }
})();
