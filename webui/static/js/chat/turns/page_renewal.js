// A page whose visitor has signed in again in another tab: it goes on with what the server gives a new page.

const NAMES = ["xsrf", "visitor"];

/** @param {string} name */
const meta = (name) => `meta[name="roxy-${name}"]`;

/** Take over what a new page has in its head. Raises Error when the server gives none. */
export async function renewPage() {
  /** @type {Document | null} */
  const page = await new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("GET", "/");
    request.responseType = "document";
    request.onload = () => resolve(request.response);
    request.onerror = () => reject(new Error("no page"));
    request.send();
  });
  for (const name of NAMES) {
    const content = page?.querySelector(meta(name))?.getAttribute("content");
    if (!content) throw new Error(`no ${name}`);
    document.querySelector(meta(name))?.setAttribute("content", content);
  }
}
