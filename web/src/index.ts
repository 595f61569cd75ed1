export { Client } from "./client.js";
export { readHeader, unpack, type ChunkName, type Chunks, type Header } from "./container.js";
export { Decoder, type Decoded } from "./decoder.js";
export { JndError } from "./error.js";
export { Models, modelBytes, type Manifest } from "./models.js";
export { orientation, upright } from "./orientation.js";
export { picture, type Picture } from "./picture.js";
export { png } from "./png.js";
export { type Small } from "./preview.js";
