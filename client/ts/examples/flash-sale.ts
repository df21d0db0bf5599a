/**
 * A flash sale: 40 buyers at once, 15 pieces. Every piece is sold once, and whoever is too late hears it for good.
 *
 *   STATESVC_URL=http://127.0.0.1:8080 STATESVC_KEY=ss_… npm run examples
 */
import assert from "node:assert/strict";
import { Client, newKey, Problem } from "../src/client.js";

const client = new Client({ baseUrl: process.env["STATESVC_URL"] ?? "http://127.0.0.1:8080", token: process.env["STATESVC_KEY"] ?? "" });
const pieces = 15;
const buyers = 40;
const sku = `phone-${newKey()}`; // another one in each run

await client.setStock(newKey(), sku, "berlin", { total: pieces });

async function buy(buyer: string): Promise<boolean> {
  const key = newKey(); // a shop stores it with the order, before the first attempt
  try {
    const { hold } = await client.hold(key, {
      owner: buyer,
      order_id: sku,
      ttl_ms: 300_000, // the piece waits five minutes for the payment
      items: [{ kind: "stock", sku, location: "berlin", quantity: 1 }],
    });
    // … the payment …
    await client.confirm(newKey(), buyer, hold.hold_id);
    return true;
  } catch (error) {
    if (error instanceof Problem && error.code === "sold-out") {
      return false; // final: nobody tries again under another key
    }
    throw error;
  }
}

const results = await Promise.all(Array.from({ length: buyers }, (_, n) => buy(`flash-${n}`)));
const sold = results.filter((got) => got).length;
const stock = await client.stock(sku, "berlin");
console.log(`${sold} sold, ${buyers - sold} too late`);
console.log(`stock: ${stock.used} used, ${stock.held} held, ${stock.available} available`);
assert.deepEqual([sold, stock.used, stock.held, stock.available], [pieces, pieces, 0, 0]);
