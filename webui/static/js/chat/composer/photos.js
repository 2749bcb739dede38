// Photos and screenshots: made smaller before they are kept and sent, without what a camera notes in them.

import { imageTokens } from "../state/records.js";

/** No model looks at more; a 12-megapixel photo becomes a tenth of its bytes. */
const MAX_SIDE = 2048;
/** A screenshot stays a PNG up to this size: JPEG blurs its letters. */
const MAX_PNG_BYTES = 1_500_000;
const QUALITY = 0.85;
/** The types that models take. */
const SENT = ["image/png", "image/jpeg", "image/gif", "image/webp"];
/** What begins the parts of a file that may say where a photo was taken. */
const NOTES = ["Exif", "eXIf", "EXIF", "http://ns.adobe.com/xap", "XML:com.adobe.xmp", "XMP ", "Photoshop 3.0"];
/** The parts of GIF, WebP and PNG files that move. */
const MOVING = ["NETSCAPE2.0", "ANIMXTWE", "ANIM", "acTL"];
const LOOKED_AT = 256 * 1024;

/** The browser cannot decode this image. */
export class NoImage extends Error {}

/**
 * True for a file that may be an image; browsers do not know the type of HEIC files.
 *
 * @param {File} file
 */
export const mayBeImage = (file) =>
  (file.type.startsWith("image/") && !file.type.startsWith("image/svg")) || isHeic(file);

/** @param {File} file */
export const isHeic = (file) => /^image\/hei[cf]/.test(file.type) || /\.hei[cf]$/i.test(file.name);

/**
 * Return an image as it is sent: at most `MAX_SIDE` pixels on its longer side, upright, without notes of the
 * camera. Animations stay as they are. Raises NoImage.
 *
 * @param {File} file
 * @returns {Promise<{ blob: Blob, type: string, tokens: number }>}
 */
export async function prepareImage(file) {
  const head = latin1(await file.slice(0, LOOKED_AT).arrayBuffer());
  /** @type {ImageBitmap} */
  let image;
  try {
    image = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    throw new NoImage(file.name);
  }
  try {
    const scale = Math.min(1, MAX_SIDE / Math.max(image.width, image.height));
    const tokens = imageTokens(image.width * scale, image.height * scale);
    const isSent = SENT.includes(file.type);
    const moves = file.type !== "image/jpeg" && MOVING.some((mark) => head.includes(mark));
    const hasNotes = NOTES.some((mark) => head.includes(mark));
    if (isSent && (moves || (scale === 1 && !hasNotes))) return { blob: file, type: file.type, tokens };
    const blob = await drawn(image, scale, file.type !== "image/jpeg" && !isHeic(file));
    return { blob, type: blob.type, tokens };
  } finally {
    image.close();
  }
}

/**
 * @param {ImageBitmap} image
 * @param {number} scale
 * @param {boolean} sharp whether it may be a screenshot
 */
async function drawn(image, scale, sharp) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(image.width * scale));
  canvas.height = Math.max(1, Math.round(image.height * scale));
  const context = canvas.getContext("2d");
  if (!context) throw new NoImage("no canvas");
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  if (sharp) {
    const png = await encoded(canvas, "image/png");
    if (png.size <= MAX_PNG_BYTES) return png;
    // JPEG has no transparency: what shows through becomes white.
    context.globalCompositeOperation = "destination-over";
    context.fillStyle = "white";
    context.fillRect(0, 0, canvas.width, canvas.height);
  }
  return encoded(canvas, "image/jpeg");
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {string} type
 * @returns {Promise<Blob>}
 */
const encoded = (canvas, type) =>
  new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new NoImage("not encoded"))), type, QUALITY);
  });

/** @param {ArrayBuffer} bytes */
const latin1 = (bytes) => new TextDecoder("latin1").decode(bytes);
