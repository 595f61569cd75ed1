// A service worker that answers every request for a .jnd file with a PNG, so that <img src="photo.jnd"> works on a site.
// Register it as a script or as a module: navigator.serviceWorker.register("service-worker.js").

import { Models } from "./models.js";
import { picture } from "./picture.js";

interface Scope {
  addEventListener(type: string, listener: (event: any) => void): void;
  skipWaiting(): Promise<void>;
  clients: { claim(): Promise<void> };
  location: Location;
}

const scope = self as unknown as Scope;
const models = new Models(new URL("models.json", scope.location.href).href);

async function answer(request: Request): Promise<Response> {
  const response = await fetch(request);
  if (!response.ok) return response;
  try {
    const { blob } = await picture(models, new Uint8Array(await response.arrayBuffer()));
    return new Response(blob, { headers: { "content-type": "image/png" } });
  } catch (error) {
    return new Response(String(error), { status: 415, headers: { "content-type": "text/plain" } });
  }
}

scope.addEventListener("install", (event) => event.waitUntil(scope.skipWaiting()));
scope.addEventListener("activate", (event) => event.waitUntil(scope.clients.claim()));
scope.addEventListener("fetch", (event) => {
  const { pathname } = new URL(event.request.url);
  if (event.request.destination === "image" && pathname.endsWith(".jnd")) event.respondWith(answer(event.request));
});
