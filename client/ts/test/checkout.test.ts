/**
 * Issue, hold, confirm and read the history, against a running service:
 *
 *   STATESVC_URL=http://127.0.0.1:8080 STATESVC_KEY=ss_… npm test
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Client, newKey, Problem } from "../src/client.js";

const baseUrl = process.env["STATESVC_URL"];
const token = process.env["STATESVC_KEY"];
const skip = baseUrl && token ? false : "STATESVC_URL and STATESVC_KEY are not set";

const tomorrow = new Date(Date.now() + 86_400_000).toISOString();
const cny = (amount: number) => ({ amount, currency: "CNY" });

test("keys are UUIDv7 and ascend", () => {
  const key = newKey();
  assert.match(key, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.ok(Math.abs(parseInt(key.replace("-", "").slice(0, 12), 16) - Date.now()) < 60_000);
});

test("a checkout", { skip }, async () => {
  const client = new Client({ baseUrl: baseUrl!, token: token! });
  const owner = `ts-${newKey()}`;
  const { coupon } = await client.issueCoupon(newKey(), "typescript", {
    owner,
    issue_ref: "welcome",
    discount: { kind: "FIXED", amount: cny(1000) },
    expires_at: tomorrow,
  });
  await client.creditLot(newKey(), owner, { issue_ref: "gift", source: "typescript", amount: cny(2000), expires_at: tomorrow });

  await client.setStock(newKey(), owner, "berlin", { total: 3 });

  const key = newKey();
  const request = {
    owner,
    order_id: "order-1",
    lines: [{ line_id: "1", amount: cny(5999) }],
    items: [
      { kind: "coupon", coupon_id: coupon.coupon_id },
      { kind: "money", all: true, currency: "CNY" },
      { kind: "stock", sku: owner, location: "berlin", quantity: 2 },
    ],
  };
  const { hold } = await client.hold(key, request);
  assert.equal(hold.state, "HELD");
  assert.equal(hold.payable?.amount, 2999);
  assert.deepEqual((await client.hold(key, request)).hold, hold, "the same key gets the same hold");
  assert.equal((await client.operation(owner, key)).status, "DONE");

  const confirmed = await client.confirm(newKey(), owner, hold.hold_id);
  assert.equal(confirmed.hold.state, "CONFIRMED");
  assert.equal((await client.getHold(hold.hold_id)).state, "CONFIRMED");
  assert.equal((await client.owner(owner)).live_holds, 0);
  const stock = await client.stock(owner, "berlin");
  assert.deepEqual([stock.available, stock.held, stock.used], [1, 0, 2]);

  const campaign = `ts-${owner}`.slice(0, 55);
  await client.createCampaign(newKey(), {
    campaign_id: campaign,
    discount: { kind: "FIXED", amount: cny(100) },
    time_zone: "Asia/Shanghai",
    starts_at: new Date(Date.now() - 3_600_000).toISOString(),
    ends_at: tomorrow,
    validity: { kind: "END_OF_DAY", days: 1 },
    total_limit: 10,
  });
  const other = `${owner}-friend`.slice(0, 64);
  const claimed = await client.claim(newKey(), campaign, { owner: other, claim_ref: "one" });
  assert.equal(claimed.coupon.state, "AVAILABLE");

  const kinds: string[] = [];
  for await (const entry of client.entries(owner)) {
    kinds.push(entry.kind);
  }
  assert.deepEqual(kinds, ["ISSUED", "CREDITED", "CONFIRMED"]);
});

test("two parcels, another basket, and a line that comes back", { skip }, async () => {
  const client = new Client({ baseUrl: baseUrl!, token: token! });
  const owner = `ts-${newKey()}`;
  await client.creditLot(newKey(), owner, { issue_ref: "gift", source: "typescript", amount: cny(2000), expires_at: tomorrow });
  const basket = (attempt: number, amount: number) => ({
    owner,
    order_id: "order-1",
    attempt,
    lines: [
      { line_id: "shoe", amount: cny(800) },
      { line_id: "sock", amount: cny(200) },
    ],
    items: [{ kind: "money", amount: cny(amount) }],
  });
  const first = await client.hold(newKey(), basket(1, 2000 - 1001));
  const { hold } = await client.replace(newKey(), first.hold.hold_id, basket(2, 1000));
  assert.equal(hold.supersedes, first.hold.hold_id);
  const part = await client.confirmPart(newKey(), hold.hold_id, { owner, amount: cny(600) });
  assert.equal(part.hold.state, "HELD");
  const last = await client.confirmPart(newKey(), hold.hold_id, { owner, items: [{ item: 0, amount: cny(300) }], final: true });
  assert.equal(last.hold.rest, "RELEASED");
  const back = { owner, refund_ref: "return-1", lines: ["sock"] };
  const { refund } = await client.refund(newKey(), hold.hold_id, back);
  assert.equal(refund.amount.amount, 180);
  assert.equal((await client.refund(newKey(), hold.hold_id, back)).already_exists, true);
});

test("refusals", { skip }, async () => {
  const client = new Client({ baseUrl: baseUrl!, token: token! });
  const owner = `ts-${newKey()}`;
  const poor = { owner, order_id: "order-1", items: [{ kind: "money", amount: cny(1) }] };
  await assert.rejects(client.hold(newKey(), poor), (error) => {
    assert.ok(error instanceof Problem);
    assert.equal(error.code, "insufficient");
    assert.equal(error.document.have, 0);
    return true;
  });
  const { hold } = await client.cancelOrder(newKey(), { owner, order_id: "order-2" });
  assert.equal(hold.tombstone, true);
  const sealed = newKey();
  assert.equal((await client.seal(owner, sealed)).status, "SEALED");
  await assert.rejects(client.hold(sealed, poor), { code: "key-reused" });
});
