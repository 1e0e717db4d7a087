// What other tabs tell a page, held back for as long as a test says: see `News` in browser.py.
(() => {
  const held = [];
  const news = (window.news = { isHeld: false });
  news.release = () => {
    news.isHeld = false;
    for (const tell of held.splice(0)) tell();
  };
  window.BroadcastChannel = class extends BroadcastChannel {
    constructor(name) {
      super(name);
      this.addEventListener("message", (event) => {
        if (!news.isHeld) return;
        event.stopImmediatePropagation(); // this listener is the first
        held.push(() => this.dispatchEvent(new MessageEvent("message", { data: event.data })));
      });
    }
  };
})();
