/**
 * A whole checkout: a coupon that was claimed, money from a red packet, and two pairs from the stock, all or nothing. One pair leaves
 * at once, the other one cannot be found and goes back, and in the end a line is returned.
 *
 *   STATESVC_URL=http://127.0.0.1:8080 STATESVC_KEY=ss_… npm run examples
 */
import assert from "node:assert/strict";
import { Client, newKey } from "../src/client.js";

const client = new Client({ baseUrl: process.env["STATESVC_URL"] ?? "http://127.0.0.1:8080", token: process.env["STATESVC_KEY"] ?? "" });
const cny = (amount: number) => ({ amount, currency: "CNY" });
const inDays = (days: number) => new Date(Date.now() + days * 86_400_000).toISOString();
const run = newKey(); // other names in each run
const [buyer, friend, sku, campaign] = [`buyer-${run}`, `friend-${run}`, `boots-${run}`, `ts-${run}`];

// What the shop has: a campaign, a friend with money, and boots.
await client.createCampaign(newKey(), {
  campaign_id: campaign,
  time_zone: "Europe/Berlin",
  discount: { kind: "FIXED", amount: cny(500) },
  starts_at: inDays(-1),
  ends_at: inDays(14),
  validity: { kind: "DAYS", days: 30 },
  total_limit: 100,
  owner_limit: 1,
});
await client.creditLot(newKey(), friend, { issue_ref: "gift", source: "spring", amount: cny(5000), expires_at: inDays(30) });
await client.setStock(newKey(), sku, "berlin", { total: 5 });

const { coupon } = await client.claim(newKey(), campaign, { owner: buyer, claim_ref: "banner" });
const { packet } = await client.createPacket(newKey(), {
  owner: friend,
  packet_ref: "birthday",
  amount: cny(2000),
  shares: 2,
  mode: "EQUAL",
});
const { share } = await client.grab(newKey(), packet.packet_id, buyer);
console.log(`a coupon, and a share of ${share.amount.amount}`);

const { hold } = await client.hold(newKey(), {
  owner: buyer,
  order_id: "order-1",
  lines: [
    { line_id: "boots", amount: cny(8000) },
    { line_id: "socks", amount: cny(2000) },
  ],
  items: [
    { kind: "coupon", coupon_id: coupon.coupon_id },
    { kind: "money", all: true, currency: "CNY" },
    { kind: "stock", sku, location: "berlin", quantity: 2 },
  ],
});
console.log(`${hold.state}, discount ${hold.discount?.amount}, left to pay ${hold.payable?.amount}`);
assert.deepEqual([hold.discount?.amount, hold.payable?.amount], [500, 8500]);

// The first parcel: the coupon, most of the money, and one pair.
const first = await client.confirmPart(newKey(), hold.hold_id, {
  owner: buyer,
  items: [
    { item: 0, all: true },
    { item: 1, amount: cny(800) },
    { item: 2, quantity: 1 },
  ],
});
console.log(`${first.hold.state} after the first parcel`);
// The other pair is not there: what is left goes back.
const last = await client.confirmPart(newKey(), hold.hold_id, { owner: buyer, final: true, items: [{ item: 1, amount: cny(100) }] });
const stock = await client.stock(sku, "berlin");
console.log(`${last.hold.state}, rest ${last.hold.rest}, ${stock.used} used, ${stock.available} available`);
assert.deepEqual([last.hold.state, stock.used, stock.available], ["CONFIRMED", 1, 4]);

const { refund } = await client.refund(newKey(), hold.hold_id, { owner: buyer, refund_ref: "return-1", lines: ["socks"] });
const money = (await client.owner(buyer)).balances.find((balance) => balance.currency === "CNY");
console.log(`refunded ${refund.amount.amount} of 900; money: ${money?.available} available, ${money?.held} held`);
assert.deepEqual([refund.amount.amount, money?.available, money?.held], [180, 280, 0]);
